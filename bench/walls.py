"""What each wall costs: the same work in a sandbox with the wall and in one without it, in pairs
of one run. "ours" is with the wall, "peer" is the same sandbox without that wall.

Talks to the helper process itself, because the product would never open a workspace with a wall
left out. Needs the test-only variant of the product that `tests/walls/run` builds.
"""

import importlib.machinery
import importlib.util
import json
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from product import SOURCE, Product, wait_for

RUNS = 5
# No wall, so nothing to compare; or no notebook could run without it.
WALLS = [
    "user-namespace", "pid-namespace", "network-namespace", "ipc-namespace", "uts-namespace", "cgroup-namespace",
    "seccomp", "landlock", "capabilities", "no-new-privs", "masked-proc", "readonly-root", "memory-limit", "cpu-limit",
    "pids-limit",
]
WORK = """
import json, os, socket, threading, time
def timed(work):
    began = time.perf_counter(); work(); return (time.perf_counter() - began) * 1000
def calls():
    for _ in range(200000): os.getppid()
def files():
    os.makedirs('/home/user/bench', exist_ok=True)
    for n in range(300):
        with open(f'/home/user/bench/{n}', 'wb') as file: file.write(b'x' * 4096)
    with open('/home/user/bench/large', 'wb') as file:
        for _ in range(32): file.write(b'x' * (1 << 20))
        file.flush(); os.fsync(file.fileno())
def network():
    server = socket.create_server(('127.0.0.1', 0))
    def echo():
        peer, _ = server.accept()
        while (data := peer.recv(64)): peer.sendall(data)
    threading.Thread(target=echo, daemon=True).start()
    client = socket.create_connection(server.getsockname())
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(5000): client.sendall(b'x' * 64); client.recv(64)
print('RESULT ' + json.dumps({'calls': timed(calls), 'files': timed(files), 'network': timed(network)}), flush=True)
time.sleep(60)
"""
CASES = {"start": "start (ms)", "memory": "memory (MiB)", "calls": "200,000 system calls (ms)", "files": "file I/O (ms)", "network": "5,000 round trips (ms)"}


def ask(folder: Path, **request) -> dict:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(folder / "helper.sock"))
        body = json.dumps(request).encode()
        door.sendall(struct.pack(">I", len(body)) + body)
        length = struct.unpack(">I", door.recv(4, socket.MSG_WAITALL))[0]
        answer = json.loads(door.recv(length, socket.MSG_WAITALL))
    if answer["response"] == "failed":
        raise RuntimeError(answer["problem"]["what"])
    return answer


def once(product: Product, template: dict, remove: list[str]) -> dict[str, float]:
    """One sandbox: how long it took to stand, and what the work inside took."""
    folder = Path(tempfile.mkdtemp(prefix="w-bench", dir=product.home / "workspaces"))
    folder.chmod(0o711)
    home = folder / "home.ext4"
    with open(home, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "root_owner=1000:1000", home], check=True)
    specification = {**template, "home": {"backend": {"image": str(home)}, "mount_path": "/home/user"}, "remove": remove}
    specification["command"] = ["/usr/bin/python3", "-c", WORK]
    (folder / "sandbox.json").write_text(json.dumps(specification))
    began = time.monotonic()
    helper = subprocess.Popen([product.program, "internal-sandbox", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=product.environment)
    try:
        if b'"ready":true' not in helper.stdout.readline().replace(b" ", b""):
            raise RuntimeError(f"without {remove} the sandbox does not stand")
        result = {"start": (time.monotonic() - began) * 1000}
        nonce = "bench"
        ask(folder, request="prove", plan={"nonce": nonce, "phase": "gate", "attempts": []})
        ask(folder, request="go", nonce=nonce)
        log = folder / "notebook.log"
        line = wait_for("the work", lambda: next((line for line in log.read_text().splitlines() if line.startswith("RESULT ")), None) if log.exists() else None, 120, 0.05)
        result["memory"] = ask(folder, request="usage")["cgroup"]["memory_usage"] / (1 << 20)
        return {**result, **json.loads(line.removeprefix("RESULT "))}
    finally:
        try:
            ask(folder, request="stop", grace_ms=100)
        except OSError:
            helper.kill()
        helper.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def variant() -> Path:
    """The test-only variant, built as `tests/walls/run` builds it."""
    loader = importlib.machinery.SourceFileLoader("walls_test", str(SOURCE / "tests/walls/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("walls_test", loader))
    loader.exec_module(module)
    return module.build()


def measure() -> tuple[list[dict], int]:
    """Pairs per wall; the order changes from run to run."""
    figures: dict[str, dict[str, tuple[list[float], list[float]]]] = {wall: {case: ([], []) for case in CASES} for wall in WALLS}
    with Product(programs=variant()) as product:
        workspace = product.launch()["id"]
        template = json.loads((product.home / "workspaces" / workspace / "sandbox.json").read_text())
        product.run("delete", workspace)
        template["id"] = "w-bench0000000"
        template["cgroup"] = "/cubicle/w-bench0000000"
        template["egress"] = {"mode": "none", "allow": []}
        once(product, template, [])
        for run in range(RUNS):
            for wall in WALLS:
                order = [(0, []), (1, [wall])] if run % 2 == 0 else [(1, [wall]), (0, [])]
                for side, remove in order:
                    for case, value in once(product, template, remove).items():
                        figures[wall][case][side].append(value)
    cases = [
        {"case": f"{wall}: {name}", "ours": figures[wall][case][0], "peer": figures[wall][case][1]}
        for wall in WALLS
        for case, name in CASES.items()
    ]
    return cases, RUNS
