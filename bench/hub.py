"""The hub with many people and many workspaces, against JupyterHub with configurable-http-proxy, in one run.

Memory in MiB with 1,000 accounts and with 1,000 running workspaces besides; seconds from the start of the
processes, after all of them were stopped, until the notebook behind each of 1,000 routes has answered. The
notebooks are one stub: an nginx that says the same to everybody. Ours is the hub with an engine in memory
that opens the stub, JupyterHub's spawner says where the stub is; the rest of both is what a site has. JupyterHub's
memory is that of its hub and its proxy together.
"""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import proxy
from person import Person
from product import SOURCE, free_port, wait_for

COUNT = int(os.environ.get("BENCH_COUNT", "1000"))
RESTARTS = int(os.environ.get("BENCH_RESTARTS", "5"))
TOKEN = "only-for-this-bench"
STUB = b"the stub"
SITE = """
import os
from jupyterhub.spawner import Spawner

class Stub(Spawner):
    "Every notebook is the one that is there."
    started = False

    def load_state(self, state):
        super().load_state(state)
        self.started = state.get("started", False)

    def get_state(self):
        return {**super().get_state(), "started": self.started}

    def clear_state(self):
        super().clear_state()
        self.started = False

    async def start(self):
        self.started = True
        return "127.0.0.1", int(os.environ["STUB_PORT"])

    async def poll(self):
        return None if self.started else 0

    async def stop(self, now=False):
        self.started = False

c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = Stub
c.JupyterHub.bind_url = f"http://127.0.0.1:{os.environ['PUBLIC_PORT']}"
c.JupyterHub.hub_port = int(os.environ["HUB_PORT"])
c.JupyterHub.cleanup_servers = False
c.JupyterHub.log_level = "ERROR"
c.ConfigurableHTTPProxy.command = [os.environ["CHP"]]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ['API_PORT']}"
c.JupyterHub.services = [{"name": "bench", "api_token": os.environ["BENCH_TOKEN"]}]
c.JupyterHub.load_roles = [{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "admin:servers"]}]
"""


def resident(pid: int) -> float:
    """Resident memory of a process and of those that it started, in MiB."""
    processes = [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    lines = (line for one in processes for line in Path(f"/proc/{one}/status").read_text().splitlines())
    return round(sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024, 1)


def program() -> Path:
    """Our hub before stubs."""
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--package", "cubicle-hub", "--example", "hub_with_stubs"]
    subprocess.run(command, cwd=SOURCE, check=True)
    return SOURCE / "target/release/examples/hub_with_stubs"


def jupyterhub() -> Path:
    """The one of the part that tests our proxy under it."""
    for complete in (proxy.CACHE.parent / "python").glob("*/complete"):
        if (complete.parent / "bin/jupyterhub").exists():
            return complete.parent / "bin/jupyterhub"
    sys.exit("error: JupyterHub is not there\nhint: `./test jupyterhub-proxy` installs it")


class Asking:
    """Requests one after the other over one connection, for as long as it lasts."""

    def __init__(self, port: int) -> None:
        self.port, self.connection = port, None

    def answered(self, head: bytes) -> bool:
        """Whether it is the stub that answers."""
        for _ in range(2):
            try:
                if self.connection is None:
                    self.connection = socket.create_connection(("127.0.0.1", self.port), 20)
                self.connection.sendall(head)
                said = b""
                while STUB not in said and not said.endswith((b"</html>\n", b"0\r\n\r\n", b"}")):
                    received = self.connection.recv(65536)
                    if not received:
                        raise ConnectionError
                    said += received
                if said.startswith(b"HTTP/1.1 200") and STUB in said:
                    return True
                # Whatever else it is, where it ends is not looked for.
                self.connection.close()
                self.connection = None
                return False
            except OSError:
                self.connection = None
        return False


class Side:
    """One of the two hubs."""

    environment: dict[str, str] = {}

    def __init__(self, folder: Path, stub: int) -> None:
        self.folder, self.stub, self.port, self.process = folder, stub, free_port(), None
        self.heads: list[bytes] = []

    def start(self) -> float:
        """Starts it; when."""
        log = (self.folder / "log").open("ab")
        began = time.monotonic()
        self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log, env={**os.environ, **self.environment})
        return began

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def all_answer(self, began: float) -> float:
        """Seconds until the stub has answered for each of them."""
        asking = Asking(self.port)
        for head in self.heads:
            while not asking.answered(head):
                if time.monotonic() - began > 300 or self.process.poll() is not None:
                    raise RuntimeError(f"{head!r} is not answered: {(self.folder / 'log').read_text()[-2000:]}")
                time.sleep(0.005)
        return round(time.monotonic() - began, 3)


class Ours(Side):
    def command(self) -> list:
        return [program(), self.folder, f"127.0.0.1:{self.port}", f"127.0.0.1:{self.stub}"]

    def admin(self, method: str, path: str, value=None) -> dict:
        """One request over the administrator's socket."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.folder / "admin.sock"))
        with contextlib.closing(connection):
            connection.request(method, f"/api/v1{path}", None if value is None else json.dumps(value), {"content-type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status not in (200, 201):
                raise RuntimeError(f"{method} {path}: {answer.status} {body[:300]}")
            return json.loads(body)

    def ready(self) -> None:
        def listens() -> bool:
            with contextlib.suppress(OSError):
                self.admin("GET", "/users")
                return True
            return False

        wait_for("our hub", listens, 60)

    def register(self) -> None:
        for number in range(COUNT):
            self.admin("POST", "/users", {"name": f"person-{number}"})

    def launch(self) -> None:
        """Each signs in, launches, and opens it."""
        for number in range(COUNT):
            link = self.admin("POST", f"/users/person-{number}/sign-in-link")["url"]
            person = Person(self.port)
            page = person.ask("GET", link)
            token = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["token"][0]
            person.post("/sign-in/link", {"csrf": page.field("csrf"), "token": token, "next": "/"})
            made = person.call("POST", "/workspaces", {"template": "jupyterlab"})
            workspace = made.json()["id"]
            entered = person.ask("GET", f"/workspaces/{workspace}/open?next=/api")
            person.ask("GET", entered.place)
            host = urllib.parse.urlsplit(entered.place).netloc
            cookies = "; ".join(f"{name}={value}" for name, value in person.jars[host.split(":")[0]].items())
            self.heads.append(f"GET /api HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n\r\n".encode())


class JupyterHub(Side):
    def command(self) -> list:
        config = self.folder / "jupyterhub_config.py"
        if not config.exists():
            config.write_text(SITE)
            ports = {"PUBLIC_PORT": self.port, "HUB_PORT": free_port(), "API_PORT": free_port(), "STUB_PORT": self.stub}
            _, _, chp = proxy.tools()
            self.environment = {**{name: str(port) for name, port in ports.items()}, "CHP": str(chp), "BENCH_TOKEN": TOKEN}
        return [jupyterhub(), "--config", config]

    def api(self, method: str, path: str, value=None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, f"/hub/api{path}", None if value is None else json.dumps(value), {"Authorization": f"token {TOKEN}"})
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def ready(self) -> None:
        def listens() -> bool:
            with contextlib.suppress(OSError):
                return self.api("GET", "/users?limit=1") == 200
            return False

        wait_for("JupyterHub", listens, 60)

    def register(self) -> None:
        status = self.api("POST", "/users", {"usernames": [f"person-{number}" for number in range(COUNT)]})
        if status != 201:
            raise RuntimeError(f"JupyterHub registers nobody: {status}")

    def launch(self) -> None:
        for number in range(COUNT):
            status = self.api("POST", f"/users/person-{number}/server", {})
            if status not in (201, 202):
                raise RuntimeError(f"JupyterHub launches nothing: {status}")
            self.heads.append(f"GET /user/person-{number}/api HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())


def measure() -> tuple[list[dict], int]:
    """Rows of memory, and of the time that a restart takes."""
    rows: dict[str, dict[str, list[float]]] = {}

    def note(case: str, who: str, value: float) -> None:
        rows.setdefault(case, {"ours": [], "peer": []})[who].append(value)
        print(f"{who}: {case}: {value}", file=sys.stderr, flush=True)

    program()
    with tempfile.TemporaryDirectory(prefix="cubicle-bench-", dir="/var/tmp") as place:
        targets = Path(place) / "targets"
        targets.mkdir()
        stub = proxy.Bench(targets)
        stub.nginx_with("stub", "1", f'server {{ listen 127.0.0.1:{stub.small}; location / {{ return 200 "{STUB.decode()}"; }} }}', stub.small)
        try:
            for who, kind in (("ours", Ours), ("peer", JupyterHub)):
                folder = Path(place) / who
                folder.mkdir(mode=0o700)
                side = kind(folder, stub.small)
                try:
                    side.start()
                    side.ready()
                    note("MiB, nobody", who, resident(side.process.pid))
                    side.register()
                    note(f"MiB, {COUNT} accounts", who, resident(side.process.pid))
                    side.launch()
                    side.all_answer(time.monotonic())
                    note(f"MiB, {COUNT} accounts, {COUNT} running workspaces", who, resident(side.process.pid))
                    for _ in range(RESTARTS):
                        side.stop()
                        note(f"seconds from start until {COUNT} routes answered", who, side.all_answer(side.start()))
                    note(f"MiB, after the restart, {COUNT} routes used", who, resident(side.process.pid))
                finally:
                    side.stop()
        finally:
            stub.stop()
    return [{"case": case, **sides} for case, sides in rows.items()], RESTARTS
