"""The cases: networks that lie, policies that miss, webhooks that add, runtimes and nodes that leave out."""

from __future__ import annotations

import contextlib
import json
from typing import Iterator

from cases import Bench, Case
from product import check
from trial import policy

PRIVILEGED = {
    "name": "sidecar",
    "image": "cubicle.test/tools:1",
    "imagePullPolicy": "Never",
    "command": ["/bin/dial", "pause"],
    "securityContext": {"privileged": True, "runAsUser": 0, "runAsNonRoot": False},
}
TOKEN = {
    "name": "token",
    "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]},
}
MOUNT = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}


def _add(path: str, value: object) -> dict:
    return {"op": "add", "path": path, "value": value}


# === around a launch ===


@contextlib.contextmanager
def never(bench: Bench) -> Iterator[None]:
    """Cilium's agents with --enable-policy=never: every object stays, nothing is enforced."""
    bench.trial.command("enforcer", bench.trial.name, "never")
    try:
        yield
    finally:
        bench.trial.command("enforcer", bench.trial.name, "default")


@contextlib.contextmanager
def open_at_first(bench: Bench) -> Iterator[None]:
    """New pods are open for their first 200 ms."""
    bench.trial.command("enforcer", bench.trial.name, "default", "--delay", "200")
    try:
        yield
    finally:
        bench.trial.command("enforcer", bench.trial.name, "default", "--delay", "-1")


@contextlib.contextmanager
def spares_ownerless(bench: Bench) -> Iterator[None]:
    """Pods without an owner are never walled."""
    bench.trial.command("enforcer", bench.trial.name, "ignore-ownerless")
    try:
        yield
    finally:
        bench.trial.command("enforcer", bench.trial.name, "default")


@contextlib.contextmanager
def careless_runtime(bench: Bench) -> Iterator[None]:
    """A runtime that ignores hostUsers: false."""
    bench.trial.command("runtime", bench.trial.name, "ignores-user-namespaces")
    try:
        yield
    finally:
        bench.trial.command("runtime", bench.trial.name, "default")


@contextlib.contextmanager
def no_process_limit(bench: Bench) -> Iterator[None]:
    """Nodes whose kubelet does not limit a pod's processes."""
    bench.trial.command("pids-limit", bench.trial.name, "-1")
    try:
        yield
    finally:
        bench.trial.command("pids-limit", bench.trial.name, "1024")


# === what administrators do ===


def wrong_namespace(bench: Bench, where: str) -> list[tuple[list[str], dict | None]]:
    """The policies are there, in a namespace where nobody is."""
    here = bench.trial.get("networkpolicy", "-n", where)["items"]
    elsewhere = [policy("default", one["metadata"]["name"], one["spec"]) for one in here]
    moved = {"apiVersion": "v1", "kind": "List", "items": elsewhere}
    check(len(here) == 2, f"{where} has {len(here)} policies")
    bench.trial.kubectl("apply", "-f", "-", text=json.dumps(moved))
    return [(["delete", "networkpolicy", one["metadata"]["name"], "-n", where], None) for one in here]


def selects_nothing(bench: Bench, where: str) -> list[tuple[list[str], dict | None]]:
    """The policies are there, and select no pod."""
    names = [one["metadata"]["name"] for one in bench.trial.get("networkpolicy", "-n", where)["items"]]
    check(len(names) == 2, f"{where} has the policies {names}")
    nobody = '{"spec": {"podSelector": {"matchLabels": {"app": "nobody"}}}}'
    return [
        (["patch", "networkpolicy", name, "-n", where, "--type=merge", "-p", nobody], None)
        for name in names
    ]


def allows_all(bench: Bench, where: str) -> list[tuple[list[str], dict | None]]:
    """One more policy, which allows everything."""
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
    return [(["create", "-f", "-"], policy(where, "helpful", everything))]


OTHERS = "network.other-workspace"

CILIUM = [
    Case("Cilium restarted with enable-policy=never", OTHERS, around=never),
    Case("policies created in the wrong namespace", OTHERS, "cubicle/requester", meddle=wrong_namespace),
    Case("policies whose selector matches nothing", OTHERS, "cubicle/requester", meddle=selects_nothing),
    Case("an extra allow-all policy", OTHERS, "cubicle/requester", meddle=allows_all),
    Case(
        "Pod Security label removed, privileged sidecar injected",
        ".spec.containers",
        "cubicle/pod-security",
        patches={
            "Namespace": [
                {"op": "remove", "path": f"/metadata/labels/pod-security.kubernetes.io~1{word}"}
                for word in ("enforce", "enforce-version")
            ],
            "Pod": [_add("/spec/containers/-", PRIVILEGED)],
        },
    ),
    Case(
        "a service account token injected",
        ".spec.automountServiceAccountToken",
        "cubicle/token",
        patches={
            "Pod": [
                _add("/spec/automountServiceAccountToken", True),
                _add("/spec/volumes/-", TOKEN),
                _add("/spec/containers/0/volumeMounts/-", MOUNT),
            ]
        },
    ),
    Case("hostUsers ignored by the runtime", "container.host-root", around=careless_runtime),
    Case("no limit of processes on the node", "neighbour.processes", around=no_process_limit),
]

WEAK = [
    Case("an enforcer that is open for a pod's first 200 ms", "network.start-up-window", around=open_at_first),
    Case(
        "an enforcer that spares pods without owner, owner removed",
        ".metadata.ownerReferences",
        "cubicle/owner",
        around=spares_ownerless,
        patches={"Pod": [{"op": "remove", "path": "/metadata/ownerReferences"}]},
    ),
]
