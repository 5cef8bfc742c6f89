"""Members of the pool, and workspaces that have one, as they are seen from the machine and from inside."""

import contextlib
import json
import sqlite3
from pathlib import Path

from product import Product, check, wait_for

# Asks the notebook server from inside, as the hub would.
ASK = """
import json, os, sys, urllib.request
request = urllib.request.Request(f"http://127.0.0.1:{os.environ['CUBICLE_PORT']}{sys.argv[1]}",
                                 headers={"authorization": f"token {os.environ['CUBICLE_TOKEN']}"})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""
# What a kernel says of itself; variables of a single kernel are left out.
ABOUT = """
names = sorted(globals())
import json, os, sys, threading
from ipykernel.connect import get_connection_file, get_connection_info
with open("/proc/self/cmdline") as file:
    command = file.read()
shell = get_ipython()
connection = get_connection_info(unpack=True)
print(json.dumps({"command": command, "flags": str(sys.flags), "path": sys.path, "arguments": sys.argv[:2], "name": __name__,
                  "folder": os.getcwd(), "random": os.urandom(8).hex(), "hash": hash("a"), "key": connection["key"].decode(),
                  "names": names, "count": shell.execution_count, "inputs": len(In), "outputs": Out, "kept": len(shell.history_manager.outputs), "last": repr(shell.last_execution_result), "hidden": sorted(shell.user_ns_hidden), "folders": list(map(str, _dh)),
                  "started_in": shell.starting_dir, "profile": shell.profile_dir.location, "settings": shell.ipython_dir,
                  "parts": sorted(type(part).__name__ for part in shell.configurables), "shell": sorted(shell.config),
                  "connection": get_connection_file() == sys.argv[2], "history": str(shell.history_manager.hist_file),
                  "listens": connection["shell_port"] == shell.kernel._recorded_ports["shell_port"],
                  "threads": sorted(thread.name.rsplit("-", 1)[0] for thread in threading.enumerate()),
                  "ends_with_its_server": shell.parent.parent.parent_handle == os.getppid(),
                  "variables": {name: value for name, value in os.environ.items() if not name.startswith(("JPY_", "PYDEVD_"))}}))
"""
# Runs a cell in as many kernels as asked for, one after the other, as the tests of the image do.
CELLS = f"""
import sys, types
notebook = types.ModuleType("notebook")
exec({(Path(__file__).resolve().parents[1] / "image/inside/notebook.py").read_text()!r}, notebook.__dict__)
for _ in range(int(sys.argv[1])):
    print(notebook.run_cell({ABOUT!r}).strip())
"""


def site(product: Product, **warm) -> None:
    (product.home / "site.yaml").write_text(json.dumps({"warm": warm}))


def pool(product: Product, template: str = "jupyterlab") -> dict:
    return product.json("pool", "explain")["templates"][template]


def filled(product: Product, count: int, template: str = "jupyterlab") -> dict:
    """Waits until that many members are ready."""
    def ready():
        state = pool(product, template)
        return state if state["ready"] == count else None
    return wait_for(f"{count} ready members", ready, 120, 0.2)


def members(product: Product) -> list[str]:
    """Folders of sandboxes that belong to no workspace."""
    known = set(product.sandboxes().values())
    return sorted(path.name for path in (product.home / "workspaces").iterdir() if path.name not in known)


def events(product: Product, workspace: str) -> list[dict]:
    # They are written when whoever watches has been told.
    with contextlib.closing(sqlite3.connect(f"file:{product.home}/engine/engine.db?mode=ro", uri=True)) as database:
        select = "SELECT events FROM steps WHERE workspace = ?"
        return json.loads(wait_for("its steps", lambda: database.execute(select, [workspace]).fetchone(), 10, 0.05)[0])


def was_claimed(product: Product, workspace: str) -> bool:
    return any(event["step"] == "prove" and "tried now" in event["message"] for event in events(product, workspace))


def claim(product: Product, user: str = "admin", template: str = "jupyterlab") -> str:
    """Launches once a member is there, and makes sure that it was used."""
    wait_for("a ready member", lambda: pool(product, template)["ready"] > 0, 120, 0.2)
    workspace = product.launch(user=user, template=template)["id"]
    check(was_claimed(product, workspace), f"not claimed: {events(product, workspace)}")
    return workspace


def ask(product: Product, workspace: str, path: str):
    return json.loads(product.exec(workspace, "/usr/bin/python3", "-c", ASK, path).stdout)


def kernels(product: Product, workspace: str, count: int) -> list[dict]:
    """Starts kernels; what each says of itself."""
    said = product.exec(workspace, "/usr/bin/python3", "-c", CELLS, str(count)).stdout.decode()
    return [json.loads(line) for line in said.splitlines()]


def waiting_kernels(product: Product, workspace: str) -> list[str]:
    """Processes of kernels that were loaded ahead, whether they wait or work."""
    said = product.exec(workspace, "/bin/sh", "-c", "grep -l [c]ubicle/kernel.py /proc/[0-9]*/cmdline || true")
    return said.stdout.decode().split()


def names(product: Product, workspace: str) -> set[str]:
    return {entry["name"] for entry in ask(product, workspace, "/api/contents")["content"]}


def specification(product: Product, workspace: str) -> dict:
    return json.loads((product.home / "workspaces" / product.sandbox(workspace) / "sandbox.json").read_text())


def token(product: Product, sandbox: str) -> str:
    return dict(specification(product, sandbox)["environment"])["CUBICLE_TOKEN"]


def server_of(product: Product, sandbox: str) -> int:
    """The process of its notebook server on the machine."""
    first = specification(product, sandbox)["id_base"]
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == first + 1000 and b"launch.py" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise LookupError(f"no server of {sandbox}")


def memory(pid: int) -> bytes:
    """All that a process can write to."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            start, end = (int(number, 16) for number in place.split("-"))
            while rights.startswith("rw") and start < end:
                with contextlib.suppress(OSError, OverflowError):
                    file.seek(start)
                    found.append(file.read(min(end - start, 1 << 20)))
                start += 1 << 20
    return b"".join(found)


def proving(product: Product, sandbox: str, word: str) -> list[int]:
    """Children of a sandbox's helper with these words in their command."""
    record, found = product.home / "workspaces" / sandbox / "helper.pid", []
    if not record.exists():
        return []
    helper = record.read_text()
    for task in Path(f"/proc/{helper}/task").iterdir():
        with contextlib.suppress(OSError):
            found += (task / "children").read_text().split()
    commands = {}
    for pid in found:
        with contextlib.suppress(OSError):
            commands[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    return [pid for pid, command in commands.items() if word in command]
