"""Names, addresses and folders of a cluster, and what is recorded about a running one.

Every cluster has the same addresses: each is in network namespaces of its own, so they never meet.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from namespaces import Process
from parts import BY_NAME, Problem

NODES = ("node-1", "node-2")
BRIDGE = "nodes"
NODE_ADDRESS = {"node-1": "192.168.61.1", "node-2": "192.168.61.2"}
NODE_DEVICE = {"node-1": BRIDGE, "node-2": "eth0"}
POD_RANGE = "10.244.0.0/16"
NODE_POD_RANGE = {"node-1": "10.244.1.0/24", "node-2": "10.244.2.0/24"}
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE, DNS_SERVICE = "10.96.0.1", "10.96.0.10"
API = f"https://{NODE_ADDRESS['node-1']}:6443"

# The test host: what a probe must try, owned by a host behind a link of its own.
OUTSIDE_LINK = "192.168.61.100"
OUTSIDE_ADDRESSES = {
    "169.254.169.254": "metadata service of most clouds",
    "169.254.170.2": "task credentials of Amazon",
    "169.254.170.23": "pod credentials of Amazon",
    "100.100.100.200": "metadata service of Alibaba",
    "168.63.129.16": "host agent of Azure",
    "8.8.8.8": "a public name server",
    "203.0.113.10": "a host of the internet (a range for documentation)",
}
OUTSIDE_RANGE = "10.99.0.0/16"  # an internal network: every address in it answers
OUTSIDE_SERVED = "10.99.1.1"  # but this one, where a test itself serves
OUTSIDE_NAMES = {
    "internet.example": "203.0.113.10",
    "internal.example": "10.99.0.5",
    "public.example": "8.8.8.8",
    "campus.example": OUTSIDE_SERVED,
}

TOOLS_IMAGE = "cubicle.test/tools:1"
DNS_IMAGE = "cubicle.test/coredns:1"

BASE = Path(os.environ.get("CUBICLE_CLUSTERS", "/var/tmp/cubicle-clusters"))
# Below these the nodes see empty folders of their own.
PRIVATE = ("/run", "/var/lib", "/var/log")


@dataclass
class Cluster:
    """A cluster by name: its folder and its record."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", self.name):
            raise Problem(f"a cluster cannot be called {self.name!r}; use 1 to 20 of a-z, 0-9 and -, no - at the ends")

    @property
    def folder(self) -> Path:
        return BASE / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def node_folder(self, node: str) -> Path:
        return self.folder / node

    def cgroup(self, node: str) -> str:
        """The group that holds the node's pods, below every hierarchy; no other cluster has it."""
        return f"cubicle-cluster-{self.name}-{node}"

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    # === the record ===

    def read(self) -> dict:
        """What is recorded; empty when there is no such cluster."""
        try:
            return json.loads((self.folder / "record.json").read_text())
        except FileNotFoundError:
            return {}

    def write(self, record: dict) -> None:
        new = self.folder / "record.json.new"
        new.write_text(json.dumps(record, indent=1))
        new.rename(self.folder / "record.json")

    def remember(self, kind: str, name: str, value) -> None:
        """Adds to the record; a process before anything relies on it."""
        record = self.read()
        record.setdefault(kind, {})[name] = value.__dict__ if isinstance(value, Process) else value
        self.write(record)

    def process(self, kind: str, name: str) -> Process | None:
        """A recorded process, if it still runs."""
        found = self.read().get(kind, {}).get(name)
        process = Process(**found) if found else None
        return process if process is not None and process.alive() else None

    def holder(self, node: str) -> Process:
        """The first process of a node, which holds its namespaces."""
        process = self.process("holders", node)
        if process is None:
            raise Problem(f"cluster {self.name} is not up; `cluster up {self.name}` starts it")
        return process

    @contextmanager
    def locked(self):
        """One command at a time changes a cluster. The lock's file goes with the cluster."""
        path = BASE / f"{self.name}.lock"
        while True:
            make_base()
            try:
                lock = open(path, "w")
            except FileNotFoundError:
                continue  # the folder was empty and has just been removed
            with lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists() or path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                    # Removed while we waited; whoever opens it now gets another one.
                    continue
                try:
                    yield
                finally:
                    if not self.folder.exists():
                        path.unlink()
            break
        with suppress(OSError):
            BASE.rmdir()


def make_base() -> None:
    """Makes the folder of all clusters; it holds keys, so nobody else may own or read it."""
    if str(BASE.resolve()).startswith(PRIVATE):
        raise Problem(f"CUBICLE_CLUSTERS={BASE} is below a folder that nodes do not see; choose one outside {PRIVATE}")
    BASE.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = BASE.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or BASE.is_symlink():
        raise Problem(f"{BASE} can be changed by others; remove it or set CUBICLE_CLUSTERS to another folder")


def clusters() -> list[Cluster]:
    """All recorded clusters."""
    return [Cluster(path.parent.name) for path in sorted(BASE.glob("*/record.json"))]


def search_path(*first: str) -> str:
    """PATH with the built programs."""
    parts = [str(part.built()) for part in BY_NAME.values() if part.built().is_dir()]
    return ":".join([*first, *parts, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
