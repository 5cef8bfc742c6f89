"""Turns an installed Debian root into a notebook image. Runs inside that root, as root.

What may differ between two builds of the same inputs goes (logs, caches, identifiers, lists), so
does every bit that could raise privilege; then everything is byte-compiled in a fixed order.
"""

import ast
import importlib._bootstrap_external as bootstrap
import importlib.util
import json
import os
import shutil
import stat
import sys
from pathlib import Path

LAUNCHER = Path("/usr/local/lib/cubicle")
PYTHON_TREES = ["/usr/lib/python3", "/usr/lib/python3.11", "/usr/local/lib/python3.11", str(LAUNCHER)]
# Emptied, kept as directories: mount points of the sandbox or places that Debian expects.
EMPTIED = ["/boot", "/dev", "/media", "/mnt", "/opt", "/proc", "/run", "/srv", "/sys", "/tmp",
           "/var/cache", "/var/lib/apt", "/var/log", "/var/tmp"]
MOUNT_POINTS = ["/.cubicle", "/data", "/dev/pts", "/dev/shm", "/home/user"]
# Differ from build to build, or are backups that the package manager leaves.
LEFTOVERS = ["/etc/.pwd.lock", "/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/group-", "/etc/gshadow-",
             "/etc/passwd-", "/etc/shadow-", "/etc/subgid-", "/etc/subuid-", "/root/.cache", "/root/.config", "/root/.wget-hsts",
             "/usr/lib/python3.11/EXTERNALLY-MANAGED", "/usr/lib/python3.11/test", "/var/lib/dpkg/lock",
             "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/status-old", "/var/lib/dpkg/diversions-old",
             "/var/lib/dpkg/statoverride-old", "/var/lib/dpkg/triggers/Lock", "/var/lib/systemd/random-seed",
             "/var/lib/dbus/machine-id", "/var/lib/dpkg/available"]


def remove(path: str) -> None:
    """Removes a file or tree that may not be there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def check_imports() -> None:
    """Fails the build when a promised package lacks a library that Debian should have brought."""
    for module in ("ipywidgets", "jupyterlab.labapp", "matplotlib.pyplot", "numpy", "pandas", "ssl", "sqlite3", "venv"):
        importlib.import_module(module)


def clean() -> None:
    """Removes what is not part of the product or would differ in the next build."""
    for directory in EMPTIED:
        for entry in os.scandir(directory) if os.path.isdir(directory) else ():
            remove(entry.path)
        os.makedirs(directory, exist_ok=True)
    for path in LEFTOVERS:
        remove(path)
    for top, directories, _ in os.walk("/usr"):
        if "__pycache__" in directories:
            directories.remove("__pycache__")
            shutil.rmtree(os.path.join(top, "__pycache__"))
    for point in MOUNT_POINTS:
        os.makedirs(point, mode=0o755, exist_ok=True)
    os.chmod("/tmp", 0o1777)
    os.chmod("/var/tmp", 0o1777)
    # Present and empty: nothing in the image invents an identity, and a bind mount finds its place.
    Path("/etc/machine-id").write_text("")


def add_account() -> None:
    """Adds the one account that a workspace runs as; it can never log in with a password."""
    with open("/etc/passwd", "a", encoding="ascii") as passwd:
        passwd.write("user:x:1000:1000:user:/home/user:/bin/bash\n")
    with open("/etc/group", "a", encoding="ascii") as group:
        group.write("user:x:1000:\n")
    with open("/etc/shadow", "a", encoding="ascii") as shadow:
        shadow.write("user:!:0:0:99999:7:::\n")


def strip_privilege() -> None:
    """Takes set-id bits, file capabilities and stray write permission off everything."""
    for top, directories, files in os.walk("/", followlinks=False):
        for name in directories + files:
            path = os.path.join(top, name)
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                continue
            for attribute in os.listxattr(path):
                os.removexattr(path, attribute)
            mode = stat.S_IMODE(info.st_mode)
            wanted = mode & ~(stat.S_ISUID | stat.S_ISGID)
            if path not in ("/tmp", "/var/tmp"):
                wanted &= ~stat.S_IWOTH
            if wanted != mode:
                os.chmod(path, wanted)


def builds_parsers_at_import(module: str) -> bool:
    """Whether importing the module builds lark parsers, which costs seconds of CPU at every start."""
    try:
        import lark

        if importlib.util.find_spec(module) is None:
            return False
    except ImportError:
        return False
    built = 0
    original = lark.Lark.__init__

    def counting(self, *arguments, **options):
        nonlocal built
        built += 1
        original(self, *arguments, **options)

    lark.Lark.__init__ = counting
    try:
        __import__(module)
    finally:
        lark.Lark.__init__ = original
    return built > 0


def compile_file(path: str) -> None:
    """Writes the bytecode of one source file, valid whatever its time stamp. Skips what is not Python 3."""
    source = Path(path).read_bytes()
    try:
        code = compile(ast.parse(source, path), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return
    bytecode = bootstrap._code_to_hash_pyc(code, importlib.util.source_hash(source), False)
    target = Path(importlib.util.cache_from_source(path))
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(bytecode)


def compile_all(workers: int) -> None:
    """Byte-compiles every tree.

    Which strings get shared in the bytecode depends on what the process compiled before, so the
    files are dealt to the workers in a fixed order and not by who is idle.
    """
    sources = sorted(
        os.path.join(top, name)
        for tree in PYTHON_TREES
        for top, _, files in os.walk(tree)
        for name in files
        if name.endswith(".py")
    )
    children = []
    for worker in range(workers):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for path in sources[worker::workers]:
                    compile_file(path)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit("finish.py: byte-compiling failed")


def main() -> None:
    sys.dont_write_bytecode = True
    # First: a module that something else has imported already would look quick.
    slow = [module for module in ("rfc3987_syntax",) if builds_parsers_at_import(module)]
    check_imports()
    (LAUNCHER / "slow_imports.json").write_text(json.dumps(slow) + "\n")
    clean()
    add_account()
    # A constant number of workers: it decides the order, and with it the bytes.
    compile_all(workers=2)
    strip_privilege()


if __name__ == "__main__":
    main()
