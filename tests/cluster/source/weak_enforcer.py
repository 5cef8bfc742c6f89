"""The program of the weak enforcer, one per node: NetworkPolicies as nftables rules, badly on purpose.

It is a test double of networks that do not keep what their objects promise: a new pod is open until
DELAY milliseconds after its address was seen (a negative DELAY: closed until its rules are in force); pods without an owner can be ignored; all enforcement can
be switched off while every object stays. What is left is right: pod, namespace and address selectors,
ports, both directions. Connections that were made in the open time stay open.

Usage: weak_enforcer.py FOLDER, with settings.json in it, read again whenever it changes.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from weak_rules import Pod, ruleset

RESOURCES = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}


class Mirror:
    """What the API server has, kept up to date by one thread for each resource."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.objects: dict[str, dict[str, dict]] = {name: {} for name in RESOURCES}
        # When a pod was first seen with an address, on the monotonic clock, by uid.
        self.seen: dict[str, float] = {}
        self.changed = threading.Condition()
        self.complete: set[str] = set()

    def follow(self, name: str) -> None:
        while True:
            try:
                self._list_and_watch(name)
            except (OSError, http.client.HTTPException, ValueError) as error:
                print(f"{name}: {error}; again in 0.2 s", flush=True)
                time.sleep(0.2)

    def _connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=self.settings["authority"])
        context.load_cert_chain(self.settings["certificate"], self.settings["key"])
        server = urlsplit(self.settings["server"])
        return http.client.HTTPSConnection(server.hostname, server.port, context=context, timeout=330)

    def _list_and_watch(self, name: str) -> None:
        connection = self._connection()
        connection.request("GET", RESOURCES[name])
        answer = connection.getresponse()
        listed = json.loads(answer.read())
        if answer.status != 200:
            raise ValueError(f"the API server answers {answer.status}")
        with self.changed:
            self.objects[name] = {item["metadata"]["uid"]: item for item in listed.get("items") or []}
            self._note_addresses(name)
            self.complete.add(name)
            self.changed.notify()
        version = listed["metadata"]["resourceVersion"]
        connection.request("GET", f"{RESOURCES[name]}?watch=1&resourceVersion={version}&timeoutSeconds=300")
        answer = connection.getresponse()
        while line := answer.readline():
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise ValueError(str(event["object"].get("message")))
            uid = event["object"]["metadata"]["uid"]
            with self.changed:
                if event["type"] == "DELETED":
                    self.objects[name].pop(uid, None)
                    self.seen.pop(uid, None)
                else:
                    self.objects[name][uid] = event["object"]
                    self._note_addresses(name)
                self.changed.notify()

    def _note_addresses(self, name: str) -> None:
        if name == "pods":
            for uid, pod in self.objects["pods"].items():
                if pod.get("status", {}).get("podIP"):
                    self.seen.setdefault(uid, time.monotonic())

    def snapshot(self, delay: float, ignore_ownerless: bool) -> tuple[list[Pod], float | None]:
        """The pods with an address, and when the next of them has waited long enough."""
        now, pods, following = time.monotonic(), [], None
        for uid, item in self.objects["pods"].items():
            status, spec = item.get("status", {}), item["spec"]
            if not status.get("podIP") or spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
                continue
            due = self.seen[uid] + delay
            walled = now >= due and not (ignore_ownerless and not item["metadata"].get("ownerReferences"))
            if now < due:
                following = due if following is None else min(due, following)
            pods.append(Pod.of(item, walled))
        return pods, following


def apply(text: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"nft: {done.stderr}\n{text}", flush=True)


def main() -> None:
    path = Path(sys.argv[1]) / "settings.json"
    settings = json.loads(path.read_text())
    mirror = Mirror(settings)
    for name in RESOURCES:
        threading.Thread(target=mirror.follow, args=[name], daemon=True).start()
    applied = announced = None
    while True:
        settings = json.loads(path.read_text())
        with mirror.changed:
            delay = max(0, settings["delay"]) / 1000
            pods, following = mirror.snapshot(delay, settings["ignore_ownerless"])
            namespaces = {
                item["metadata"]["name"]: item["metadata"].get("labels") or {}
                for item in mirror.objects["namespaces"].values()
            }
            policies = list(mirror.objects["policies"].values())
            complete = len(mirror.complete) == len(RESOURCES)
        closed = settings["pods"] if settings["delay"] < 0 and settings["enforce"] else ""
        text = ruleset(pods, namespaces, policies if settings["enforce"] else [], closed)
        if complete and text != applied:
            apply(text)
            applied = text
        if complete and settings != announced:
            new = path.with_name("applied.new")
            new.write_text(json.dumps(settings))
            new.rename(path.with_name("applied"))
            announced = settings
        with mirror.changed:
            # At least five times a second, for changed settings.
            wait = 0.2 if following is None else max(0.0, min(0.2, following - time.monotonic()))
            mirror.changed.wait(wait)


if __name__ == "__main__":
    main()
