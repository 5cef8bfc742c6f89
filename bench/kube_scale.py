"""Many workspaces through the controller, against `kubectl create` of the same objects on the same cluster. Seconds.

Until every workspace has its pod object: namespace, quota, limits, policies, account and home are made before it.
A hundred nodes that only pretend (kwok) take the pods, which start there for ever, so that the controller is measured and
not the kubelets of one machine; volumes were made before. Both make a part in turn, so that each finds the same cluster."""

import json
import os
import time

from kube_open import inside, installation, site

SIZES = [int(one) for one in os.environ.get("CUBICLE_BENCH_SIZES", "100 1000").split()]
KINDS = ("resourcequota", "limitrange", "serviceaccount", "networkpolicy", "persistentvolumeclaim", "pod")
# How many are made in turn.
PART = 250
NODES = 100
# The storage class of volumes that are there before anybody asks.
CLASS = "made-before"
KEPT = ("name", "namespace", "labels", "annotations")


def memory(trial) -> float:
    """The controller's resident memory, in MiB."""
    from crashes import controllers

    pid = controllers(trial.name)[0]
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def pattern(found) -> list[dict]:
    """Every object of one tenant, as it was made."""
    name = found.create()
    where = installation.namespace_of(name)
    deadline = time.monotonic() + 60
    while not found.trial.kubectl("get", "pod", name, "-n", where, "--ignore-not-found").strip():
        if time.monotonic() > deadline:
            raise RuntimeError("the first workspace has no pod")
        time.sleep(0.5)
    objects = [found.trial.get("namespace", where)]
    for kind in KINDS:
        objects += found.trial.get(kind, "-n", where)["items"]
    objects = [one for one in objects if one["metadata"]["name"] not in ("kube-root-ca.crt", "default")]
    for one in objects:
        one.pop("status", None)
        one["metadata"] = {key: value for key, value in one["metadata"].items() if key in KEPT}
        for field in ("finalizers", "volumeName", "nodeName"):
            one.get("spec", {}).pop(field, None)
        # What the cluster wrote when it bound a claim to its volume.
        notes = one["metadata"].get("annotations", {})
        for note in [note for note in notes if note.startswith("pv.kubernetes.io/")]:
            del notes[note]
    found.delete(name)
    return json.loads(json.dumps(objects).replace(where, "NAMESPACE").replace(name, "NAME"))


def raw(found, objects: list[dict], numbers: range) -> float:
    """The same objects so many times, in one list, by `kubectl create`; seconds."""
    text = json.dumps(objects)
    items = []
    for number in numbers:
        items += json.loads(text.replace("NAMESPACE", f"raw-{number}").replace("NAME", f"raw-{number}"))
    # Away from the policies that let only the controller make such objects.
    labels = [one["metadata"].get("labels", {}) for one in items]
    for one in labels:
        for label in [label for label in one if label.startswith("cubicle.dev/")]:
            del one[label]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    began = time.monotonic()
    found.trial.kubectl("create", "-f", "-", text=listed)
    return time.monotonic() - began


def volumes(found, names: list[str]) -> None:
    """Volumes of these names: nodes that only pretend make none."""
    spec = {
        "storageClassName": CLASS,
        "capacity": {"storage": "1Ti"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/nowhere"},
    }
    items = [{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec} for name in names]
    found.trial.kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def storage(found) -> None:
    """The class of these volumes."""
    thing = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
    }
    found.trial.apply(thing)


def pretend(found) -> None:
    """Nodes that only pretend take pods from now on."""
    found.trial.command("fake-nodes", found.trial.name, str(NODES), "--pods", "starting")
    found.trial.kubectl("taint", "nodes", "-l", "type=kwok", "kwok.x-k8s.io/node-")


def placed(found, wanted: int) -> None:
    """Waits until the nodes have so many pods, so that the next part does not pay for the last one's."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        pods = found.trial.kubectl("get", "pods", "-A", "-l", "cubicle.dev/workspace", "-o", "jsonpath={.items[*].spec.nodeName}")
        if len(pods.split()) >= wanted:
            return
        time.sleep(1)
    raise RuntimeError(f"{len(pods.split())} of {wanted} pods have a node")


def ours(found, count: int) -> dict:
    """So many workspaces through the controller: seconds until each has its pod, requests of everybody."""
    names = [found.name() for _ in range(count)]
    things = [installation.workspace(name, installation.owner_of(name)) for name in names]
    patience = max(300, count)
    came = inside(found.trial.name, "many", {"objects": things, "seconds": patience}, seconds=patience + 120)
    if came["pods"] != count:
        raise RuntimeError(f"{came['pods']} of {count} workspaces have a pod")
    return came


def measure() -> tuple[list[dict], int]:
    cases = []
    with site("bench-scale", startPatience="1h", storageClass=CLASS) as found:
        found.trial.kubectl("cordon", "node-1", "node-2")
        storage(found)
        volumes(found, ["pattern"])
        objects = pattern(found)
        pretend(found)
        # Each node's enforcer makes something of all policies: two take 40 % of a machine with two processors, for pods that
        # no node has.
        for node in ("node-1", "node-2"):
            found.trial.command("kill", found.trial.name, f"{node}-cilium")
        before, made, took, peer, requests = memory(found.trial), 0, 0.0, 0.0, 0.0
        for size in sorted(SIZES):
            # One cluster that grows: the smaller case is the beginning of the larger one.
            while made < size:
                part = min(PART, size - made)
                volumes(found, [f"{who}-{number}" for number in range(made, made + part) for who in ("ours", "raw")])
                peer += raw(found, objects, range(made, made + part))
                came = ours(found, part)
                made, took, requests = made + part, took + came["seconds"], requests + came["requests"]
                placed(found, made)
                print(f"{made}: {took:.1f} s, raw {peer:.1f} s", flush=True)
            cases += [
                {"case": f"{size} workspaces, {len(objects)} objects each (s)", "ours": [took], "peer": [peer]},
                {"case": f"{size}: the controller's memory before and after (MiB)", "ours": [memory(found.trial)], "peer": [before]},
                {"case": f"{size}: requests of everybody, per workspace", "ours": [requests / size]},
            ]
    return cases, 1
