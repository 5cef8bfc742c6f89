"""A quicker start of the server, from what the image's build prepared (`build/prepare.py`).

Every start imports the same thousand modules and compiles the same four hundred regular expressions.
The image keeps the byte code of these modules in one file that all workspaces share in memory, and the
expressions as the interpreter compiled them. What is not there is imported and compiled as usual, so that
packages in the home, and everything that a user adds, work as ever. Kernels are ordinary interpreters.
"""

import _sre
import importlib.util
import marshal
import mmap
import re._compiler as compiler
import sys
import threading
import types
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

CODE, INDEX = "start.code", "start.index"

# Not needed for a start but imported by it; run when something first uses them.
DEFERRED = frozenset({
    # Only `nbextensions_path` of notebook_shim wants one light submodule of it.
    "IPython",
    # For formats of JSON schemas that nothing of a start has: durations, templates of addresses, colours.
    "arrow", "uri_template", "webcolors",
    # For lists of extensions from elsewhere, which the launcher's options turn off.
    "requests",
})

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

    def __init__(self, modules: dict, code: memoryview) -> None:
        self.modules = modules
        self.code = code

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        known = self.modules.get(name)
        if known is not None:
            origin, locations, start, end = known
            loader = PreparedLoader(name, origin, self.code[start:end])
            spec = importlib.util.spec_from_file_location(
                name, origin, loader=loader, submodule_search_locations=None if locations is None else list(locations)
            )
        elif name in DEFERRED:
            spec = PathFinder.find_spec(name, path, target)
        else:
            return None
        if name in DEFERRED and spec is not None and spec.loader is not None:
            spec.loader = DeferringLoader(spec.loader)
        return spec


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
            index = marshal.load(file)
        with open(f"{folder}/{CODE}", "rb") as file:
            code = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, EOFError, ValueError, TypeError):
        return False
    if index["interpreter"] != interpreter():
        return False
    sys.meta_path.insert(0, PreparedFinder(index["modules"], code))
    use_patterns(index["patterns"])
    return True
