"""Network namespaces of a test's own: the one in which the engine runs, and one behind it that
owns the addresses which a workspace may or may not reach. Neither has a route out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from product import check

# Prints the status of an HTTP answer, or why there was none.
GET = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode()[:200].replace(chr(10), ' | '))
except OSError as error:
    print(type(error).__name__, error)
"""


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class World:
    """The engine's namespace, and the one that owns these addresses and serves a folder on port 80 of each."""

    def __init__(self, addresses: list[str], folder: Path):
        self.addresses, self.folder = addresses, folder
        self.near, self.far = (f"cubicle-test-{os.getpid()}-{side}" for side in ("near", "far"))
        self.server: subprocess.Popen | None = None

    def __enter__(self) -> "World":
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self) -> None:
        for name in (self.near, self.far):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", "v0", "netns", self.near, "type", "veth", "peer", "name", "v0", "netns", self.far)
        for side, address in ((self.near, "10.99.0.1/30"), (self.far, "10.99.0.2/30")):
            _ip("-n", side, "address", "add", address, "dev", "v0")
            _ip("-n", side, "link", "set", "v0", "up")
        for address in self.addresses:
            _ip("-n", self.far, "address", "add", f"{address}/32", "dev", "v0")
            _ip("-n", self.near, "route", "add", f"{address}/32", "dev", "v0")
        for side in (self.near, self.far):
            routes = _ip("-n", side, "route", "show", "default") + _ip("-n", side, "-6", "route", "show", "default")
            check(not routes, f"{side} has a way out: {routes}")
        self.server = subprocess.Popen(
            [*self.enter(self.far), sys.executable, "-m", "http.server", "--bind", "0.0.0.0", "--directory", str(self.folder), "80"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def __exit__(self, *_) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    @staticmethod
    def enter(name: str) -> list[str]:
        """What a command is started through, to run in a namespace."""
        # Not `ip netns exec`: that hides the cgroups.
        return ["nsenter", f"--net=/run/netns/{name}"]

    def answers(self, address: str) -> bool:
        """The control: from the engine's own namespace, without a wall."""
        said = subprocess.run(
            [*self.enter(self.near), sys.executable, "-c", GET, f"http://{address}/"],
            capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
        )
        return said.stdout.strip() == "200"
