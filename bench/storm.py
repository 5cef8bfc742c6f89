"""10 and 50 people who launch at the same instant, against JupyterHub with configurable-http-proxy and plain
`jupyter lab` of the same image, in one run. Milliseconds from the click of all until each one's server is open, and
seconds of processor time that the whole machine spent until the last one was.

Ours twice: with nothing prepared, and with ten warm sandboxes. JupyterHub has its own defaults, and its spawner starts
what a person would start by hand, in a chroot: no walls, no limits, no proof.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import proxy
from hub import jupyterhub
from person import Person
from product import Product, free_port, wait_for
from warm_open import ready

SIZES = [int(size) for size in os.environ.get("CUBICLE_BENCH_SIZES", "10 50").split()]
MEMBERS = 10
TOKEN = "only-for-this-bench"
# Nobody is waited for longer.
LONGEST = 300
SITE = """
import os, signal, subprocess, sys, tempfile
from pathlib import Path
from jupyterhub.spawner import Spawner
from jupyterhub.utils import random_port
sys.path[:0] = os.environ["BENCH_PATH"].split(":")
from cold_open import plain_command

class Plain(Spawner):
    "`jupyter lab` in a chroot of the image."
    child = None

    async def start(self):
        port, home = random_port(), tempfile.mkdtemp(prefix="home-", dir=os.environ["BENCH_HOMES"])
        os.chown(home, 1000, 1000)
        command = plain_command(Path(os.environ["BENCH_ROOTFS"]), Path(home), port, self.server.base_url)
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        return "127.0.0.1", port

    async def poll(self):
        return 0 if self.child is None else self.child.poll()

    async def stop(self, now=False):
        if self.child is not None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
            self.child = None

c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = Plain
c.JupyterHub.bind_url = f"http://127.0.0.1:{os.environ['PUBLIC_PORT']}"
c.JupyterHub.hub_port = int(os.environ["HUB_PORT"])
c.JupyterHub.log_level = "ERROR"
c.ConfigurableHTTPProxy.command = [os.environ["CHP"]]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ['API_PORT']}"
c.JupyterHub.services = [{"name": "bench", "api_token": os.environ["BENCH_TOKEN"]}]
c.JupyterHub.load_roles = [{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "admin:servers"]}]
"""


def processor_seconds() -> float:
    """What all processors have worked since the machine started (proc(5), /proc/stat)."""
    numbers = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def storm(size: int, click, state) -> tuple[list[float], int, float]:
    """All click at once. When each was open, how many never were, and what it cost."""
    before, began = processor_seconds(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(size) as clicking:
        waiting = dict(enumerate(clicking.map(click, range(size))))
    opened, failed = [], 0
    while waiting and time.monotonic() - began < LONGEST:
        for number, made in list(waiting.items()):
            now = state(number, made)
            if now == "open":
                opened.append((time.monotonic() - began) * 1000)
            elif now == "failed":
                failed += 1
            if now != "waits":
                del waiting[number]
        time.sleep(0.02)
    return opened, failed + len(waiting), processor_seconds() - before


def ours(size: int, members: int) -> tuple[list[float], int, float]:
    with Product() as product:
        for number in range(size):
            product.run("user", "add", f"user{number}")
        people = [Person(product.port).sign_in(product, f"user{number}") for number in range(size)]
        product.run("delete", product.launch()["id"])
        if members:
            with contextlib.closing(sqlite3.connect(product.home / "engine/engine.db", timeout=30)) as database, database:
                database.executemany("INSERT INTO arrival (template, at) VALUES ('jupyterlab', ?)", [(int(time.time()),)] * members)
            (product.home / "site.yaml").write_text(json.dumps({"warm": {"members": members}}))
            wait_for("warm sandboxes", lambda: ready(product) >= members, 300, 0.2)
            time.sleep(2)

        def click(number: int) -> str:
            made = people[number].call("POST", "/workspaces", {"template": "jupyterlab"})
            return made.json()["id"] if made.status in (201, 202) else ""

        def state(number: int, workspace: str) -> str:
            if not workspace:
                return "failed"
            now = people[number].call("GET", f"/workspaces/{workspace}").json()["state"]
            return {"running": "open", "failed": "failed", "refused": "failed"}.get(now, "waits")

        return storm(size, click, state)


def peer(size: int, rootfs: Path) -> tuple[list[float], int, float]:
    with tempfile.TemporaryDirectory(prefix="cubicle-bench-", dir="/var/tmp") as place:
        folder = Path(place)
        (folder / "jupyterhub_config.py").write_text(SITE)
        port = free_port()
        _, _, chp = proxy.tools()
        environment = {
            **os.environ, "PUBLIC_PORT": str(port), "HUB_PORT": str(free_port()), "API_PORT": str(free_port()), "CHP": str(chp),
            "BENCH_TOKEN": TOKEN, "BENCH_ROOTFS": str(rootfs), "BENCH_HOMES": place, "BENCH_PATH": ":".join(sys.path[:3]),
        }
        log = (folder / "log").open("wb")
        process = subprocess.Popen([jupyterhub(), "--config", folder / "jupyterhub_config.py"], cwd=folder, env=environment, stdout=log, stderr=log)

        def api(method: str, path: str, value=None) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
            with contextlib.closing(connection):
                connection.request(method, f"/hub/api{path}", None if value is None else json.dumps(value), {"Authorization": f"token {TOKEN}"})
                answer = connection.getresponse()
                return answer.status, answer.read()

        def listens() -> bool:
            with contextlib.suppress(OSError):
                return api("GET", "/users?limit=1")[0] == 200
            return False

        def state(number: int, _) -> str:
            server = json.loads(api("GET", f"/users/user{number}")[1])["servers"].get("", {})
            return "open" if server.get("ready") else "waits" if server.get("pending") else "failed"

        try:
            wait_for("JupyterHub", listens, 60)
            api("POST", "/users", {"usernames": [f"user{number}" for number in range(size)]})
            return storm(size, lambda number: api("POST", f"/users/user{number}/server", {})[0], state)
        finally:
            for number in range(size):
                with contextlib.suppress(OSError):
                    api("DELETE", f"/users/user{number}/server")
            process.terminate()
            process.wait(60)


def measure() -> tuple[list[dict], int]:
    cases = []
    with Product() as product:
        rootfs = next(path for path in (product.home / "images").iterdir()).resolve() / "rootfs"
    for size in SIZES:
        theirs, lost, cost = peer(size, rootfs)
        for kind, members in (("nothing prepared", 0), (f"{MEMBERS} warm", MEMBERS)):
            opened, failed, spent = ours(size, members)
            cases += [
                {"case": f"{size} at once, {kind}: until each is open (ms)", "ours": opened or [0.0], "peer": theirs or [0.0]},
                {"case": f"{size} at once, {kind}: never opened", "ours": [float(failed)], "peer": [float(lost)]},
                {"case": f"{size} at once, {kind}: processor time (s)", "ours": [spent], "peer": [cost]},
            ]
    return cases, 1
