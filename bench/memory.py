"""Proportional set size (PSS, proc(5)) of an idle workspace, in MiB: its server and its first process, and with the
helper and egress proxy that belong to it; against plain `jupyter lab` of the same image, as many of each at the
same time, in one run. Idle: a page was asked for once, then nothing for a while. Then the same while it stands
still (`freezeAfter`), the processor time of both, and how long somebody waits for its first answer in milliseconds.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from cold_open import plain_command
from person import Person
from product import Product, free_port, wait_for

COUNT = int(os.environ.get("CUBICLE_BENCH_WORKSPACES", 5))
IDLE_SECONDS = float(os.environ.get("CUBICLE_BENCH_IDLE", 20))
CYCLES = int(os.environ.get("CUBICLE_BENCH_CYCLES", 8))
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


def processor(workspaces: list[dict]) -> list[float]:
    """Thousandths of a processor that each uses, over the idle time."""
    before = [usage(one["id"]) for one in workspaces]
    time.sleep(IDLE_SECONDS)
    return [(usage(one["id"]) - start) / 1e6 / IDLE_SECONDS for one, start in zip(workspaces, before)]


def usage(workspace: str) -> int:
    """Nanoseconds of processor time, as the kernel says; asked without the workspace."""
    version_1 = Path("/sys/fs/cgroup/cpuacct/cubicle", workspace, "cpuacct.usage")
    if version_1.exists():
        return int(version_1.read_text())
    return int(Path("/sys/fs/cgroup/cubicle", workspace, "cpu.stat").read_text().split()[1]) * 1000


def visits(person: Person, workspace: str) -> float:
    """Until the list of files is there, on an origin that the browser knows."""
    began = time.monotonic()
    answer = person.follow(f"/workspaces/{workspace}/open?next=%2Fapi%2Fcontents")
    if answer.status != 200:
        raise ValueError(f"{workspace}: {answer.status} {answer.text[:200]}")
    return (time.monotonic() - began) * 1000


def ours() -> dict[str, list[float]]:
    """Of each workspace: its own processes, these with what belongs to it, and the same while it stands still."""
    with Product() as product:
        workspaces, people = [], []
        for number in range(COUNT):
            product.run("user", "add", f"user{number}")
            workspaces.append(product.launch(user=f"user{number}"))
            people.append(Person(product.port).sign_in(product, f"user{number}"))
        for workspace in workspaces:
            code = (
                "import os, urllib.request as u\n"
                f"for path in {PAGES!r}:\n"
                "    u.urlopen(u.Request('http://127.0.0.1:8888' + path, headers={'authorization': 'token ' + os.environ['CUBICLE_TOKEN']})).read()"
            )
            product.python(workspace["id"], code)
        time.sleep(IDLE_SECONDS)
        helpers = [product.helper_pid(one["id"]) for one in workspaces]
        found = {"own": [pss(below(one["pid"])) for one in workspaces], "whole": [pss(below(helper)) for helper in helpers]}
        found["processor"] = processor(workspaces)
        found["answer"] = [visits(person, one["id"]) for _ in range(CYCLES) for person, one in zip(people, workspaces)]
        (product.home / "site.yaml").write_text(json.dumps({"freezeAfter": "1s"}))
        stand_still(people, workspaces)
        found["frozen"] = [pss(below(one["pid"])) for one in workspaces]
        found["frozen processor"] = processor(workspaces)
        found["frozen answer"] = []
        for _ in range(CYCLES):
            for person, one in zip(people, workspaces):
                found["frozen answer"].append(visits(person, one["id"]))
            stand_still(people, workspaces)
        return found


def stand_still(people: list[Person], workspaces: list[dict]) -> None:
    def all_do() -> bool:
        return all(
            person.call("GET", f"/workspaces/{one['id']}/usage").json()["frozen"] for person, one in zip(people, workspaces)
        )

    wait_for("all to stand still", all_do, 120, 0.5)


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
    found = ours()
    peer = plain()
    return [
        {"case": "PSS of an idle workspace (MiB)", "ours": found["own"], "peer": peer},
        {"case": "with its helper and egress proxy (MiB)", "ours": found["whole"], "peer": peer},
        {"case": "PSS while it stands still, against idle (MiB)", "ours": found["frozen"], "peer": found["own"]},
        {"case": "processor while it stands still, against idle (thousandths)", "ours": found["frozen processor"], "peer": found["processor"]},
        {"case": "click to the list of files of one that stands still, against idle (ms)", "ours": found["frozen answer"], "peer": found["answer"]},
    ], COUNT
