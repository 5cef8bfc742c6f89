"""From the request to the first answer of a workspace on a cluster, against a bare pod of the same image and a pod of
the same specification in the same run, in turn. Milliseconds. The image answers at once, so that what is measured is the platform."""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/kubernetes/checks"))
import installation  # noqa: E402
from trial import PROGRAM, Trial, namespace  # noqa: E402

PAIRS = int(os.environ.get("CUBICLE_BENCH_PAIRS", "5"))
STEPS = ["request", "plan", "build", "prove", "open"]
PORT = 8888
# Between two measurements, in seconds: a node that has ended a pod still removes its sandbox.
QUIET = 2


def inside(cluster: str, command: str, given: dict, seconds: float = 300) -> dict:
    """Runs a command of kube_client.py in the cluster's network namespace."""
    words = [PROGRAM, "exec", cluster, "--", sys.executable, HERE / "kube_client.py", command]
    done = subprocess.run(words, input=json.dumps(given), capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr}")
    return json.loads(done.stdout)


@contextlib.contextmanager
def site(name: str, **settings):
    """A cluster with Cilium and the chart on it, with these settings."""
    with tempfile.TemporaryDirectory(prefix="cubicle-bench-", dir="/var/tmp") as folder:
        images = installation.Images(Path(folder))
        trial = Trial(name)
        try:
            # As docs/kubernetes.md tells sites with Cilium.
            trial.up("--enforcer", "cilium", "--without-labels", r"cubicle\.dev/(workspace|owner)")
            found = installation.Site(trial, images)
            values = json.loads(found.values.read_text())
            values["settings"] |= settings
            found.values.write_text(json.dumps(values))
            found.install()
            yield found
        finally:
            trial.command("down", name, accept=(0, 1))


def bare(image: str, name: str) -> dict:
    """A pod as anyone would write it: the same image, command, limits and kind of home."""
    amounts = {"cpu": "500m", "memory": "256Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "bare"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "notebook",
                "image": image,
                "imagePullPolicy": "Never",
                "command": ["/bin/dial", "listen", "-name", "desk", str(PORT)],
                "resources": {"requests": amounts, "limits": amounts},
                "volumeMounts": [{"name": "home", "mountPath": "/home/user"}],
            }],
            "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
        },
    }


# What the cluster itself puts into a pod, and what belongs to its namespace.
NOT_ITS_OWN = ("nodeName", "serviceAccount", "serviceAccountName", "tolerations", "priority", "preemptionPolicy")


def alike(pod: dict, name: str) -> dict:
    """A pod of the same specification, with nothing around it: no policies, quota or account of its own."""
    spec = {key: value for key, value in pod["spec"].items() if key not in NOT_ITS_OWN}
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            volume["persistentVolumeClaim"]["claimName"] = "home"
    spec["terminationGracePeriodSeconds"] = 0
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "bare"}, "spec": spec}


CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "home", "namespace": "bare"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
}


def shares(steps: list[dict]) -> dict[str, float]:
    """How long each step took."""
    ends = {one["step"]: one["elapsedMs"] for one in steps if one["state"] == "done"}
    found, last = {}, 0
    for step in STEPS:
        if step in ends:
            found[step] = float(ends[step] - last)
            last = ends[step]
    return found


def made(found, pod: dict) -> dict:
    """How long a pod took that is gone again."""
    answer = inside(found.trial.name, "pod", {"object": pod, "port": PORT})
    # Not by force: that takes the object alone, and the node would still be at work for it beside what comes next.
    found.trial.kubectl("delete", "pod", pod["metadata"]["name"], "-n", "bare", "--grace-period=1", "--wait")
    time.sleep(QUIET + random.random())
    return answer


def measure() -> tuple[list[dict], int]:
    """Ours, a bare pod and one of the same specification in turn; the first of each makes home and volume and is not counted."""
    ours, peer, ready, by_hand, unproven = [], [], [], [], []
    parts: dict[str, list[float]] = {step: [] for step in STEPS}
    with site("bench-open") as found:
        found.trial.apply(namespace("bare"), CLAIM)
        for turn in range(PAIRS + 1):
            name = found.name()
            thing = installation.workspace(name, "u-000000000001")
            came = inside(found.trial.name, "workspace", {"object": thing})
            if came["state"] != "running":
                raise RuntimeError(f"the workspace is {came['state']}: {came['reason']}")
            where = found.trial.get("workspace", name)["status"]["namespace"]
            same = alike(found.trial.get("pod", name, "-n", where), f"alike-{turn}")
            found.delete(name)
            time.sleep(QUIET + random.random())
            answer, other = (made(found, pod) for pod in (bare(found.images.desk, f"bare-{turn}"), same))
            if turn == 0:
                continue
            took = shares(came["steps"])
            ours.append(came["marks"]["running"])
            unproven.append(came["marks"]["running"] - took["prove"] - took["open"])
            peer.append(answer["answered"])
            ready.append(answer["ready"])
            by_hand.append(other["ready"])
            for step, value in took.items():
                parts[step].append(value)
            print(f"{turn}: ours {ours[-1]:.0f} ms {took}, bare {peer[-1]:.0f} ms (ready {ready[-1]:.0f}), the same specification ready {by_hand[-1]:.0f}", flush=True)
    cases = [
        {"case": "request to first answer (ms)", "ours": ours, "peer": peer},
        {"case": "without proof and the notebook's own start (ms)", "ours": unproven, "peer": ready},
        {"case": "the same, against a pod of the same specification (ms)", "ours": unproven, "peer": by_hand},
    ]
    cases += [{"case": f"of which {step} (ms)", "ours": values} for step, values in parts.items() if values]
    return cases, PAIRS
