"""Runs the built product in a home of its own, for end-to-end tests.

Every test gets a fresh CUBICLE_HOME and a free port, talks to the product only through its
command line and its HTTP interface, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
# Where ./test puts programs and images, so that they are built once.
PROGRAMS = Path(os.environ.get("CUBICLE_TEST_PROGRAMS", SOURCE / "target/test-programs"))
IMAGES = Path(os.environ.get("CUBICLE_TEST_IMAGES", SOURCE / "target/test-images"))


class Failed(Exception):
    """A check that did not come out."""


def check(condition: object, message: str) -> None:
    """Fails the test with this message unless the condition holds."""
    if not condition:
        raise Failed(message)


def wait_for(what: str, condition, seconds: float = 30.0, pause: float = 0.1):
    """Waits until the condition gives something true, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise Failed(f"{what} did not happen within {seconds} s")


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Product:
    """One installation: programs, image, state, and the running `cubicle serve`."""

    def __init__(self, programs: Path = PROGRAMS, environment: dict[str, str] | None = None, disk: str | None = None):
        """`disk` gives the home a small disk of its own, for example `512m`."""
        self.home = Path(tempfile.mkdtemp(prefix="cubicle-test-", dir="/var/tmp"))
        if disk is not None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk}", "cubicle-test", self.home], check=True)
        self.port = free_port()
        self.server: subprocess.Popen[bytes] | None = None
        # What `cubicle serve` is started through, for example `nsenter` into a namespace of the test's.
        self.enter: list[str] = []
        self.environment = {
            **os.environ,
            "CUBICLE_HOME": str(self.home),
            "CUBICLE_LISTEN": f"127.0.0.1:{self.port}",
            "NO_COLOR": "1",
            **(environment or {}),
        }
        self.home.chmod(0o711)
        (self.home / "bin").mkdir(mode=0o711)
        (self.home / "images").mkdir(mode=0o711)
        for name, mode in (("cubicle", 0o755), ("cubicle-probe", 0o711)):
            shutil.copy2(programs / name, self.home / "bin" / name)
            (self.home / "bin" / name).chmod(mode)
        for image in IMAGES.iterdir():
            if (image / "image.json").exists():
                (self.home / "images" / image.name).symlink_to(image.resolve())
        self.program = self.home / "bin/cubicle"

    def __enter__(self) -> "Product":
        try:
            self.start()
        except BaseException:
            self.purge()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is not None:
            sys.stderr.write(self.log())
        self.purge()

    def log(self) -> str:
        """What the server has printed."""
        path = self.home / "serve.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def start(self) -> None:
        """Starts `cubicle serve` and waits until it is ready."""
        log = open(self.home / "serve.log", "ab")
        offset = log.tell()
        self.server = subprocess.Popen(
            [*self.enter, self.program, "serve"], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()

        def ready() -> bool:
            check(self.server.poll() is None, f"`cubicle serve` ended: {self.log()}")
            with open(self.home / "serve.log", "rb") as log:
                log.seek(offset)
                return b"Cubicle is ready:" in log.read()

        wait_for("`Cubicle is ready:`", ready)

    def stop_server(self, how: int = signal.SIGTERM) -> None:
        """Ends `cubicle serve` by a signal; workspaces live on."""
        if self.server is not None:
            self.server.send_signal(how)
            self.server.wait(30)
            self.server = None
            # One that could not end its hub leaves it to notice, and to let go of the port.
            wait_for("the hub's end", lambda: self.hub_pid() is None)

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,), input: bytes | None = None, timeout: float = 180):
        """Runs one command and returns its result; any exit code but the accepted ones fails."""
        result = subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
        )
        check(
            result.returncode in accept,
            f"`cubicle {' '.join(arguments)}` ended with {result.returncode}, expected {accept}:\n"
            f"{result.stdout.decode(errors='replace')[-3000:]}{result.stderr.decode(errors='replace')[-3000:]}",
        )
        return result

    def json(self, *arguments: str, accept: tuple[int, ...] = (0,)):
        """Runs one command with `--format json` and returns what it prints."""
        before, separator, after = list(arguments), [], []
        if "--" in before:
            at = before.index("--")
            before, separator, after = before[:at], ["--"], before[at + 1 :]
        result = self.run(*before, "--format", "json", *separator, *after, accept=accept)
        return json.loads(result.stdout)

    def launch(self, user: str = "admin", template: str = "jupyterlab", accept: tuple[int, ...] = (0,)) -> dict:
        """Launches and waits; returns what `show` says afterwards."""
        self.run("launch", template, "--user", user, "--wait", accept=accept)
        newest = self.json("list")[0]
        return self.json("show", newest["id"])

    def exec(self, workspace: str, *command: str, accept: tuple[int, ...] = (0,), timeout: float = 120):
        """Runs a command inside a workspace as its tenant."""
        return self.run("exec", workspace, "--", *command, accept=accept, timeout=timeout)

    def python(self, workspace: str, code: str, accept: tuple[int, ...] = (0,), timeout: float = 120) -> str:
        """Runs Python inside a workspace as its tenant and returns what it prints."""
        return self.exec(workspace, "/usr/bin/python3", "-c", code, accept=accept, timeout=timeout).stdout.decode()

    def helper_pid(self, workspace: str) -> int:
        """The process that keeps a workspace, or a sandbox that is nobody's."""
        return int((self.home / "workspaces" / self.sandbox(workspace) / "helper.pid").read_text())

    def sandboxes(self) -> dict[str, str]:
        """The sandbox of each workspace: its own identifier, or that of one that was ready when it was started again."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/engine/engine.db?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT id, private FROM workspace").fetchall()
        return {workspace: json.loads(private).get("sandbox", workspace) for workspace, private in rows}

    def sandbox(self, workspace: str) -> str:
        """The folder of a workspace below `workspaces`."""
        return self.sandboxes().get(workspace, workspace)

    def hub_pid(self) -> int | None:
        """The hub's process, when it runs."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"internal-hub" in (entry / "cmdline").read_bytes():
                    if f"CUBICLE_HOME={self.home}\0".encode() in (entry / "environ").read_bytes():
                        return int(entry.name)
        return None

    def purge(self) -> None:
        """Ends everything and removes the home."""
        if self.server is not None and self.server.poll() is None:
            with contextlib.suppress(Exception):
                for workspace in self.json("list"):
                    self.run("delete", workspace["id"], accept=(0, 4, 5))
            with contextlib.suppress(Exception):
                self.stop_server()
            if self.server is not None:
                self.server.kill()
                self.server.wait()
                self.server = None
        subprocess.run([SOURCE / "down", "--purge"], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True)
        if self.home.is_mount():
            subprocess.run(["umount", "--lazy", self.home])
        shutil.rmtree(self.home, ignore_errors=True)


class Suite:
    """Runs named cases, prints a line each, and ends with `N passed, N failed`."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []
        self.names: list[str] = []

    @contextlib.contextmanager
    def case(self, name: str):
        """One case; a failure is printed and counted, and the next case runs."""
        self.names.append(name)
        began = time.monotonic()
        try:
            yield
        except (Failed, subprocess.SubprocessError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            self.failed.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        else:
            self.passed += 1
            print(f"ok     {name} ({time.monotonic() - began:.1f} s)", flush=True)

    def finish(self) -> None:
        """Prints the sum and exits."""
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)
