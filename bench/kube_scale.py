"""Many workspaces through the controller, against `kubectl create` of the same objects on the same cluster. Seconds.

Until every workspace has its pod object: namespace, quota, limits, policies, account and home are made before it.
No node takes the pods, so that the controller is measured and not the kubelets of one machine."""

import json
import os
import time

from kube_open import inside, installation, site

SIZES = [int(one) for one in os.environ.get("CUBICLE_BENCH_SIZES", "100 1000").split()]
KINDS = ("resourcequota", "limitrange", "serviceaccount", "networkpolicy", "persistentvolumeclaim", "pod")
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
        one.get("spec", {}).pop("finalizers", None)
    found.delete(name)
    return json.loads(json.dumps(objects).replace(where, "NAMESPACE").replace(name, "NAME"))


def raw(found, objects: list[dict], count: int) -> float:
    """The same objects so many times, in lists of 500 workspaces, by `kubectl create`."""
    text = json.dumps(objects)
    spent = 0.0
    for first in range(0, count, 500):
        items = []
        for number in range(first, min(first + 500, count)):
            items += json.loads(text.replace("NAMESPACE", f"raw-{count}-{number}").replace("NAME", f"raw-{number}"))
        # Away from the policies that let only the controller make such objects.
        labels = [one["metadata"].get("labels", {}) for one in items]
        for one in labels:
            for label in [label for label in one if label.startswith("cubicle.dev/")]:
                del one[label]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        began = time.monotonic()
        found.trial.kubectl("create", "-f", "-", text=listed)
        spent += time.monotonic() - began
    return spent


def measure() -> tuple[list[dict], int]:
    cases = []
    with site("bench-scale") as found:
        found.trial.kubectl("cordon", "node-1", "node-2")
        objects = pattern(found)
        for size in SIZES:
            peer = raw(found, objects, size)
            things = [installation.workspace(name, installation.owner_of(name)) for name in (found.name() for _ in range(size))]
            before = memory(found.trial)
            patience = max(900, size // 2)
            came = inside(found.trial.name, "many", {"objects": things, "seconds": patience}, seconds=patience + 300)
            if came["pods"] != size:
                raise RuntimeError(f"{came['pods']} of {size} workspaces have a pod")
            after = memory(found.trial)
            cases += [
                {"case": f"{size} workspaces, {len(objects)} objects each (s)", "ours": [came["seconds"]], "peer": [peer]},
                {"case": f"{size}: the controller's memory before and after (MiB)", "ours": [after], "peer": [before]},
                {"case": f"{size}: requests of everybody, per workspace", "ours": [came["requests"] / size]},
            ]
            print(f"{size}: {came}, raw {peer:.1f} s, memory {before:.0f} -> {after:.0f} MiB", flush=True)
            found.trial.kubectl("delete", "workspaces", "--all", "--wait=false")
    return cases, 1
