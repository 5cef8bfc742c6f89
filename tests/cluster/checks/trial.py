"""A cluster under test: commands, pods and dials, for the part's cases."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(FOLDER.parent / "harness"))
sys.path.insert(0, str(FOLDER / "source"))
from product import Failed, check, wait_for  # noqa: E402

PROGRAM = FOLDER / "cluster"
TOOLS = "cubicle.test/tools:1"
DENY_ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


class Trial:
    """One cluster, by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *words: str, accept: tuple[int, ...] = (0,), seconds: float = 3600):
        """Runs `cluster WORDS` and returns the finished process."""
        command = [PROGRAM, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
        check(
            done.returncode in accept,
            f"`cluster {' '.join(words)}` ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-3000:]}",
        )
        return done

    def up(self, *options: str) -> float:
        """Starts it; returns the seconds that this took."""
        began = time.monotonic()
        done = self.command("up", self.name, *options)
        print(done.stderr, end="")
        return time.monotonic() - began

    def down(self) -> float:
        """Removes it; returns the seconds that this took."""
        began = time.monotonic()
        self.command("down", self.name)
        return time.monotonic() - began

    def exec(self, *words: str, text: str | None = None, accept: tuple[int, ...] = (0,), node: str = "node-1") -> str:
        """Runs a command in the cluster's network namespace and returns what it prints."""
        command = [PROGRAM, "exec", self.name, "--node", node, "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, input=text, timeout=300)
        check(
            done.returncode in accept,
            f"`{' '.join(words)}` ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}",
        )
        return done.stdout

    def said(self, *words: str, text: str = "", accept: tuple[int, ...] = (0, 1)) -> str:
        """Runs kubectl and returns all that it says, refusals too."""
        command = [PROGRAM, "exec", self.name, "--", "kubectl", *words]
        done = subprocess.run(command, capture_output=True, text=True, input=text, timeout=300)
        check(done.returncode in accept, f"`kubectl {' '.join(words)}` ended with {done.returncode}: {done.stderr}")
        return done.stdout + done.stderr

    def kubectl(self, *words: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        return self.exec("kubectl", *words, text=text, accept=accept)

    def get(self, *words: str) -> dict:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def apply(self, *objects: dict) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", text=json.dumps(listed))

    def wait_ready(self, namespace: str, *pods: str) -> None:
        words = [f"pod/{name}" for name in pods]
        self.kubectl("wait", "--for=condition=Ready", "-n", namespace, *words, "--timeout=60s")

    def address(self, namespace: str, pod: str) -> str:
        return self.get("pod", pod, "-n", namespace)["status"]["podIP"]

    def dial(self, namespace: str, pod: str, *targets: str, udp: bool = False) -> dict[str, str]:
        """What became of each dial from inside a pod: open, refused, timeout or failed."""
        kind = ["-udp"] if udp else []
        command = ["exec", "-n", namespace, pod, "--", "/bin/dial", "try", "-timeout", "1500ms", *kind, *targets]
        lines = self.kubectl(*command, accept=(0, 1)).splitlines()
        found = {line.split()[1]: line.split()[0] for line in lines}
        check(sorted(found) == sorted(targets), f"dial answered {lines} for {targets}")
        return found

    def settles(self, what: str, namespace: str, pod: str, expected: dict[str, str], seconds: float = 20) -> None:
        """Waits until these dials come out as expected; a policy takes a moment to be in force."""
        last: dict[str, str] = {}

        def holds() -> bool:
            last.update(self.dial(namespace, pod, *expected))
            return last == expected

        try:
            wait_for(what, holds, seconds=seconds)
        except Failed as error:
            raise Failed(f"{error}; the dials: {last}, expected {expected}") from None

    def watch(self, namespace: str, pod: str) -> tuple[int, int, float]:
        """What a watching pod saw: attempts, how many were open, when the last open one began (ms)."""

        def ended() -> str:
            return self.get("pod", pod, "-n", namespace)["status"].get("phase") in ("Succeeded", "Failed")

        wait_for(f"the end of {pod}", ended, seconds=60)
        text = self.kubectl("logs", "-n", namespace, pod)
        found = re.search(r"attempts=(\d+) open=(\d+) first_ms=\S+ last_ms=(\S+)", text)
        check(found, f"{pod} printed {text!r}")
        return int(found[1]), int(found[2]), float(found[3])


def namespace(name: str) -> dict:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(where: str, name: str, *command: str, node: str = "", **more) -> dict:
    """A pod of the tools image; `more` is added to its spec."""
    container = {"name": "main", "image": TOOLS, "imagePullPolicy": "Never", "command": list(command)}
    container.update(more.pop("container", {}))
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "enableServiceLinks": False}
    if node:
        spec["nodeName"] = node
    labels = {"app": name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": where, "labels": labels},
        "spec": spec | more,
    }


def server(where: str, name: str, node: str) -> dict:
    return pod(where, name, "/bin/dial", "listen", "-name", name, "8000", "8001", node=node)


def client(where: str, name: str, node: str) -> dict:
    return pod(where, name, "/bin/dial", "pause", node=node)


def policy(where: str, name: str, spec: dict) -> dict:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": where},
        "spec": spec,
    }
