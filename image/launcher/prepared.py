"""A quicker start of the server, from what the image's build prepared (`build/prepare.py`).

Every start imports the same thousand modules, compiles the same four hundred regular expressions, and makes
the same methods of data classes from text. The image keeps the byte code of all these in one file that all
workspaces share in memory, and the expressions as the interpreter compiled them. What is not there is
imported and compiled as usual, so that packages in the home, and everything that a user adds, work as ever.
Kernels are ordinary interpreters.
"""

import __future__
import _sre
import builtins
import functools
import importlib.util
import marshal
import mmap
import operator
import platform
import re._compiler as compiler
import sys
import threading
import types
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader

CODE, INDEX = "start.code", "start.index"

# Not needed for a start but imported by it; run when something first uses them.
DEFERRED = frozenset({
    # Only `nbextensions_path` of notebook_shim wants one light submodule of it.
    "IPython",
    # For formats of JSON schemas that nothing of a start has: durations, templates of addresses, colours.
    "arrow", "uri_template", "webcolors",
    # For lists of extensions from elsewhere, which the launcher's options turn off.
    "requests",
    # For kernels behind a gateway, terminals, translations and settings with comments: when they are used.
    "babel", "json5", "terminado", "websocket",
    # For notebooks in formats of before 2015.
    "nbformat.v1", "nbformat.v2", "nbformat.v3",
    # For consoles and C libraries.
    "ctypes", "curses",
})

# Modules that make code from text when they, or those that use them, are imported, and with which function.
MAKERS = {"attr._make": "compile", "collections": "eval", "dataclasses": "exec"}
# What code made from text takes over from the module that makes it: the future statements.
FUTURE = functools.reduce(operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names))

# What the import machinery itself asks of a module.
OF_THE_IMPORT = frozenset({
    "__cached__", "__class__", "__dict__", "__file__", "__loader__", "__name__", "__package__", "__path__", "__spec__",
})


def interpreter() -> tuple:
    """What the prepared files depend on."""
    return sys.implementation.cache_tag, importlib.util.MAGIC_NUMBER, _sre.MAGIC


def is_running(spec: ModuleSpec) -> bool:
    """Whether the module, deferred or not, has been run or is being run."""
    return not isinstance(spec.loader, DeferringLoader) or spec.loader.state != "waiting"


class DeferredModule(types.ModuleType):
    """A module whose code runs when one of its attributes is first wanted."""

    def __getattribute__(self, name: str):
        if name not in OF_THE_IMPORT:
            object.__getattribute__(self, "__spec__").loader.run(self)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value) -> None:
        # The import machinery hangs submodules into their package; anything else is a change of the code's own.
        of_the_import = name in OF_THE_IMPORT or (
            isinstance(value, types.ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        )
        if not of_the_import:
            self.__spec__.loader.run(self)
        object.__setattr__(self, name, value)


class DeferringLoader:
    """Wraps a module's loader so that its code runs late, and once, whichever thread wants it first."""

    def __init__(self, loader) -> None:
        self.loader = loader
        self.lock = threading.RLock()
        self.state = "waiting"

    def __getattr__(self, name: str):
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return DeferredModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Called by the import: nothing happens yet."""

    def run(self, module: types.ModuleType) -> None:
        with self.lock:
            if self.state != "waiting":
                return
            self.state = "running"
            try:
                self.loader.exec_module(module)
            except BaseException:
                self.state = "waiting"
                raise
            module.__spec__.loader = module.__loader__ = self.loader
            object.__setattr__(module, "__class__", types.ModuleType)


class PreparedLoader(SourceFileLoader):
    """Loads a module of the image whose byte code is already at hand."""

    def __init__(self, name: str, path: str, code: memoryview) -> None:
        super().__init__(name, path)
        self.code = code

    def get_code(self, name: str) -> types.CodeType:
        return marshal.loads(self.code) if name == self.name else super().get_code(name)


class PreparedFinder:
    """Finds the modules of a start without a search."""

    def __init__(self, modules: dict, code: memoryview, make: Callable) -> None:
        self.modules = modules
        self.code = code
        self.make = make

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        known = self.modules.get(name)
        if known is not None:
            spec = self.known(name, *known)
        elif name in DEFERRED or name in MAKERS:
            spec = PathFinder.find_spec(name, path, target)
        else:
            return None
        if spec is None or spec.loader is None:
            return spec
        if name in DEFERRED:
            spec.loader = DeferringLoader(spec.loader)
        if name in MAKERS:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: hand_out(module, self.make) or execute(module)
        return spec

    def known(self, name: str, origin: str, locations, cached: str | None, start: int, end: int) -> ModuleSpec:
        if cached is None:
            return importlib.util.spec_from_file_location(name, origin, loader=ExtensionFileLoader(name, origin))
        loader = PreparedLoader(name, origin, self.code[start:end])
        spec = importlib.util.spec_from_file_location(
            name, origin, loader=loader, submodule_search_locations=None if locations is None else list(locations)
        )
        spec.cached = cached
        return spec


def hand_out(module: types.ModuleType, make: Callable) -> None:
    """Gives a module that makes code from text a function with what is made already. `make` is like the
    built-in `compile`."""
    name = MAKERS[module.__name__]
    built_in = getattr(builtins, name)

    def made(source, filename: str, mode: str):
        return make(source, filename, mode, sys._getframe(2).f_code.co_flags & FUTURE, True) if type(source) is str else source

    def compile_or_take(source, filename, mode):
        return made(source, filename, mode)

    def run_or_take(source, globals, locals=None):
        return built_in(made(source, "<string>", name), globals, locals)

    setattr(module, name, compile_or_take if name == "compile" else run_or_take)


def take(texts: dict, code: memoryview) -> Callable:
    """Like the built-in `compile`, with what is compiled already."""

    def compile_or_take(*wanted):
        known = texts.get(wanted)
        return compile(*wanted) if known is None else marshal.loads(code[slice(*known)])

    return compile_or_take


def pattern_key(pattern, flags) -> tuple | None:
    """What a compiled expression is kept under; none for what cannot be kept."""
    return (type(pattern).__name__, pattern, int(flags)) if type(pattern) in (str, bytes) else None


def use_patterns(patterns: dict) -> None:
    """Hands out the expressions that are compiled already."""
    compile_pattern = compiler.compile

    def compile_or_take(pattern, flags=0):
        known = patterns.get(pattern_key(pattern, flags))
        return compile_pattern(pattern, flags) if known is None else _sre.compile(*known)

    compiler.compile = compile_or_take


def use(folder: str) -> bool:
    """Uses what the build prepared. False when it prepared nothing for this interpreter."""
    try:
        with open(f"{folder}/{INDEX}", "rb") as file:
            index = marshal.loads(file.read())
        with open(f"{folder}/{CODE}", "rb") as file:
            code = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, EOFError, ValueError, TypeError):
        return False
    if index["interpreter"] != interpreter():
        return False
    make = take(index["texts"], code)
    sys.meta_path.insert(0, PreparedFinder(index["modules"], code, make))
    use_makers_that_run(make)
    use_patterns(index["patterns"])
    # The server describes the machine to its log; asking `uname` takes a process.
    platform._Processor.get = lambda: index["processor"]
    return True


def use_makers_that_run(make: Callable) -> None:
    """For those that the interpreter itself has imported."""
    for name in MAKERS.keys() & sys.modules.keys():
        hand_out(sys.modules[name], make)
