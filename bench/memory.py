"""Proportional set size (PSS, proc(5)) of an idle workspace, in MiB: its server and its first process, and with the
helper and egress proxy that belong to it; against plain `jupyter lab` of the same image, as many of each at the
same time, in one run. Idle: a page was asked for once, then nothing for a while.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from cold_open import plain_command
from product import Product, free_port, wait_for

COUNT = int(os.environ.get("CUBICLE_BENCH_WORKSPACES", 5))
IDLE_SECONDS = float(os.environ.get("CUBICLE_BENCH_IDLE", 20))
PAGES = ("/api", "/lab", "/api/contents")


def pss(pids: list[int]) -> float:
    """What these processes have of the machine's memory, each shared page counted in parts."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return round(total / 1024, 1)


def below(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += below(int(child))
    return found


def ours() -> tuple[list[float], list[float]]:
    """Of each workspace: its own processes, and these with what belongs to it."""
    with Product() as product:
        workspaces = []
        for number in range(COUNT):
            product.run("user", "add", f"user{number}")
            workspaces.append(product.launch(user=f"user{number}"))
        for workspace in workspaces:
            code = (
                "import os, urllib.request as u\n"
                f"for path in {PAGES!r}:\n"
                "    u.urlopen(u.Request('http://127.0.0.1:8888' + path, headers={'authorization': 'token ' + os.environ['CUBICLE_TOKEN']})).read()"
            )
            product.python(workspace["id"], code)
        time.sleep(IDLE_SECONDS)
        helpers = [int((product.home / "workspaces" / one["id"] / "helper.pid").read_text()) for one in workspaces]
        return [pss(below(one["pid"])) for one in workspaces], [pss(below(helper)) for helper in helpers]


def plain() -> list[float]:
    with Product() as product:
        rootfs = next(path for path in (product.home / "images").iterdir()).resolve() / "rootfs"
    servers, homes = [], []
    try:
        for _ in range(COUNT):
            port, home = free_port(), Path(tempfile.mkdtemp(prefix="cubicle-bench-", dir="/var/tmp"))
            os.chown(home, 1000, 1000)
            homes.append(home)
            servers.append((port, subprocess.Popen(plain_command(rootfs, home, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)))

            def answers(port=port) -> bool:
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).status == 200
                except OSError:
                    return False

            wait_for("plain `jupyter lab`", answers, 120, 0.05)
        for port, _ in servers:
            for path in PAGES:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30).read()
        time.sleep(IDLE_SECONDS)
        return [pss(below(process.pid)) for _, process in servers]
    finally:
        for _, process in servers:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for home in homes:
            shutil.rmtree(home, ignore_errors=True)


def measure() -> tuple[list[dict], int]:
    own, whole = ours()
    peer = plain()
    return [
        {"case": "PSS of an idle workspace (MiB)", "ours": own, "peer": peer},
        {"case": "with its helper and egress proxy (MiB)", "ours": whole, "peer": peer},
    ], COUNT
