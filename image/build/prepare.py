"""Records what a start of the server loads, for `launcher/prepared.py`. Runs inside the new root, as root.

The server is started once, as the image's account in an empty home, up to the point where it would begin to
answer. The same inputs give the same files, byte for byte.
"""

import _sre
import marshal
import os
import platform
import re._compiler as compiler
import shutil
import subprocess
import sys
import types
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

LAUNCHER = Path("/usr/local/lib/cubicle")
ACCOUNT = 1000
HEADER = 16  # of a .pyc file: magic number, flags, hash of the source

sys.path.insert(0, str(LAUNCHER))
import prepared  # noqa: E402 - lies where the line above points


def record_patterns() -> dict:
    """From now on, keeps every regular expression that is compiled."""
    patterns = {}
    compile_pattern, compile_code = compiler.compile, _sre.compile
    seen = []

    def keep(pattern, flags, code, groups, groupindex, indexgroup):
        seen.append((pattern, int(flags), [int(word) for word in code], groups, dict(groupindex), tuple(indexgroup)))
        return compile_code(pattern, flags, code, groups, groupindex, indexgroup)

    def compile_and_keep(pattern, flags=0):
        seen.clear()
        compiled = compile_pattern(pattern, flags)
        key = prepared.pattern_key(pattern, flags)
        if key is not None and seen:
            patterns[key] = seen[-1]
        return compiled

    compiler._sre = types.SimpleNamespace(**{**vars(_sre), "compile": keep})
    compiler.compile = compile_and_keep
    return patterns


def loaded_modules() -> dict[str, tuple]:
    """Every module with a file that has run: where, its submodules' folders, and its byte code unless it is a
    library."""
    modules = {}
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is None or spec.name != name or not spec.has_location or not prepared.is_running(spec):
            continue
        if isinstance(spec.loader, ExtensionFileLoader):
            modules[name] = (spec.origin, None, None, b"")
        elif os.path.dirname(spec.origin) != str(LAUNCHER) and spec.cached and os.path.exists(spec.cached):
            locations = spec.submodule_search_locations
            code = Path(spec.cached).read_bytes()[HEADER:]
            modules[name] = (spec.origin, None if locations is None else tuple(locations), spec.cached, code)
    return modules


def check_deferred() -> None:
    """Fails the build when a module that is run late could not be run at all."""
    for name in sorted(prepared.DEFERRED & sys.modules.keys()):
        module = sys.modules[name]
        if not prepared.is_running(module.__spec__):
            module.__spec__.loader.run(module)


def record(output: str) -> None:
    """Starts the server up to its loop, and writes what it took."""
    texts = {}

    def compile_and_keep(*wanted):
        code = compile(*wanted)
        # Version 2 has no references, which would depend on what else is in memory.
        texts[wanted] = marshal.dumps(code, 2)
        return code

    sys.meta_path.insert(0, prepared.PreparedFinder({}, memoryview(b""), compile_and_keep))
    prepared.use_makers_that_run(compile_and_keep)
    patterns = record_patterns()
    prepared.use = lambda folder: True
    import launch
    from jupyter_server.serverapp import ServerApp

    def instead_of_the_loop(self) -> None:
        Path(output).write_bytes(marshal.dumps((loaded_modules(), patterns, texts)))
        check_deferred()
        # Without the interpreter's own end: nothing that the server began is to be waited for.
        os._exit(0)

    ServerApp.start_ioloop = instead_of_the_loop
    launch.main()
    sys.exit("the server ended before it began")


def recorded(number: int) -> tuple[dict[str, tuple], dict, dict]:
    """What one start took, in an interpreter of its own."""
    # Always the same place: paths find their way into patterns.
    scratch = Path("/tmp/start")
    for folder in ("home", "output", "temporary"):
        (scratch / folder).mkdir(parents=True)
        os.chown(scratch / folder, ACCOUNT, ACCOUNT)
    environment = {
        "CUBICLE_PORT": "0", "CUBICLE_TOKEN": "never-answers", "HOME": f"{scratch}/home", "LANG": "C.UTF-8",
        "PATH": os.environ["PATH"], "TMPDIR": f"{scratch}/temporary",
    }
    output = scratch / "output" / "recorded"
    ran = subprocess.run(
        [sys.executable, "-I", __file__, str(output)], env=environment, user=ACCOUNT, group=ACCOUNT, extra_groups=[],
        capture_output=True, text=True, check=False,
    )
    if ran.returncode:
        sys.exit(f"prepare.py: start {number} of the server failed: {ran.stderr}")
    taken = marshal.loads(output.read_bytes())
    shutil.rmtree(scratch)
    return taken


def main() -> None:
    # Each interpreter orders its sets differently: what depends on that is of no use to the next one.
    (modules, patterns, texts), others = (recorded(number) for number in (1, 2))
    code = bytearray()

    def place(body: bytes) -> tuple[int, int]:
        code.extend(body)
        return len(code) - len(body), len(code)

    contents = {
        "interpreter": prepared.interpreter(),
        "modules": {name: (*known, *place(body)) for name, (*known, body) in modules.items() if name in others[0]},
        "patterns": {key: patterns[key] for key in sorted(patterns.keys() & others[1].keys(), key=repr)},
        "texts": {key: place(texts[key]) for key in sorted(texts.keys() & others[2].keys())},
        "processor": platform.processor(),
    }
    (LAUNCHER / prepared.CODE).write_bytes(code)
    (LAUNCHER / prepared.INDEX).write_bytes(marshal.dumps(contents, 2))
    print("prepared " + ", ".join(f"{len(contents[what])} {what}" for what in ("modules", "patterns", "texts")))


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    if len(sys.argv) > 1:
        record(sys.argv[1])
    else:
        main()
