"""From the click to the list of the user's files and to the first executed cell on a cluster with warm workspaces, against a bare pod of the same
image in the same run. Milliseconds. JupyterLab itself, two nodes with Cilium, hub and controller as installed.

Beside what the product does, what else could be done for a user who has a home: a pod that was made before and waits
for the scheduler, and a home that an agent with all rights on the node mounts into a pod that runs.
"""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "tests/kubernetes/checks"))
import first_cell  # noqa: E402, F401 - its environment is made here, where packages can be had
import installation  # noqa: E402
from kube_open import CLAIM, inside  # noqa: E402
from layout import NODES, Cluster  # noqa: E402
from product import Product, wait_for  # noqa: E402
from trial import PROGRAM, Trial, namespace  # noqa: E402

CLAIMS = int(os.environ.get("CUBICLE_BENCH_CLAIMS", "6"))
PEERS = int(os.environ.get("CUBICLE_BENCH_PEERS", "4"))
TEMPLATE = json.loads((HERE.parent / "crates/cubicle-local/src/default_template.json").read_text())
NAME = TEMPLATE["metadata"]["name"]
PORT = 8888
TOKEN = "of-a-bare-pod"
FILES = [f"file-{number}.txt" for number in range(20)]


class Images(installation.Images):
    """JupyterLab instead of a stand-in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.files["jupyterlab"] = folder / "jupyterlab.tar"
        with Product() as product:
            said = product.run("image", "export", NAME, "--output", str(self.files["jupyterlab"]))
            self.jupyterlab = said.stdout.decode().splitlines()[-1]
            self.command = next(one["command"] for one in product.json("image", "list") if one["name"] == NAME)


class Site(installation.Site):
    """One hub, and JupyterLab among its images."""

    def settings(self) -> dict:
        found = super().settings()
        found["hub"]["replicas"] = 1
        reference = {"reference": self.images.jupyterlab, "command": self.images.command}
        found["settings"]["images"][NAME] = reference
        return found

    def user(self, *words: str) -> str:
        """`cubicle user WORDS` where the hub runs."""
        hub = ["exec", "--namespace", installation.SYSTEM, "deployment/cubicle-hub", "--", "cubicle", "user"]
        return self.trial.kubectl(*hub, *words)

    def link(self, user: str) -> str:
        """What a user follows to sign in."""
        return json.loads(self.user("sign-in-link", user, "--format", "json"))["url"]

    def hub(self) -> list:
        found = self.trial.get("endpointslices", "-n", installation.SYSTEM, "-l", "kubernetes.io/service-name=cubicle-hub")
        (slice_,) = found["items"]
        return [slice_["endpoints"][0]["addresses"][0], slice_["ports"][0]["port"]]

    def hold(self, count: int) -> None:
        words = ["--reuse-values", "--set", f"settings.warm.members.{NAME}={count}", "--wait", "--timeout=120s"]
        self.helm("upgrade", installation.RELEASE, str(installation.CHART), *words)
        self.ready()

    def members(self) -> list[dict]:
        found = self.trial.get("workspaces", "-l", "cubicle.dev/pool=member")["items"]
        return [one for one in found if one.get("status", {}).get("readyAt")]


def launch(site: Site, link: str) -> dict:
    words = [PROGRAM, "exec", site.trial.name, "--node", "outside", "--", sys.executable, HERE / "kube_person.py"]
    given = {"hub": f"https://{installation.HOST}", "address": site.hub(), "link": link, "template": NAME}
    done = subprocess.run(words, input=json.dumps(given), capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def fill(cluster: str, where: str) -> None:
    """Changes the home in a tenant's namespace from outside."""
    (home,) = (home for node in NODES for home in Path(Cluster(cluster).node_folder(node), "volumes").glob(f"pvc-*_{where}_*"))
    for name in FILES:
        (home / name).touch()
        os.chown(home / name, 1000, 1000)


def bare(site: Site, name: str, gated: bool) -> dict:
    """A pod as anyone would write it; until JupyterLab answers, and until it has executed a first cell."""
    spec = TEMPLATE["spec"]
    amounts = {"cpu": spec["resources"]["cpu"], "memory": spec["resources"]["memory"]}
    words = ["/usr/local/bin/jupyter", "lab", "--no-browser", "--ip", "0.0.0.0", "--port", str(PORT)]
    thing = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "bare"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
            "containers": [{
                "name": "notebook",
                "image": site.images.jupyterlab,
                "imagePullPolicy": "Never",
                "command": [*words, f"--IdentityProvider.token={TOKEN}"],
                "env": [{"name": "HOME", "value": "/home/user"}],
                "workingDir": "/home/user",
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": amounts},
                "volumeMounts": [{"name": "home", "mountPath": "/home/user"}, {"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}, {"name": "tmp", "emptyDir": {}}],
        },
    }
    if gated:
        thing["spec"]["schedulingGates"] = [{"name": "cubicle.dev/bench"}]
    answer = inside(site.trial.name, "pod", {"object": thing, "port": PORT, "token": TOKEN})
    site.trial.kubectl("delete", "pod", name, "-n", "bare", "--grace-period=0", "--force")
    return answer


# === what an agent on the node would do ===

LIBC = ctypes.CDLL(None, use_errno=True)
# Numbers of x86-64 (asm/unistd_64.h) and flags (linux/mount.h).
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
OPEN_TREE_CLONE, AT_EMPTY_PATH, MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_IDMAP = 1, 0x1000, 4, 0x100000


def syscall(number: int, *words) -> int:
    found = LIBC.syscall(number, *words)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def attach(pid: int, folder: Path) -> float:
    """Mounts a folder of the node over the home of a running pod, with the pod's ids; milliseconds."""
    namespaces = {name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in ("user", "mnt")}
    began = time.monotonic()
    tree = syscall(OPEN_TREE, -100, str(folder).encode(), OPEN_TREE_CLONE)
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_IDMAP, 0, 0, namespaces["user"])
    syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, ctypes.sizeof(attributes))
    child = os.fork()
    if child == 0:
        try:
            if LIBC.setns(namespaces["mnt"], 0x20000) != 0:
                os._exit(ctypes.get_errno())
            syscall(MOVE_MOUNT, tree, b"", -100, b"/home/user", MOVE_MOUNT_F_EMPTY_PATH)
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    _, ended = os.waitpid(child, 0)
    took = (time.monotonic() - began) * 1000
    for number in (tree, *namespaces.values()):
        os.close(number)
    if ended:
        raise OSError(os.waitstatus_to_exitcode(ended), "the mount was refused")
    return took


def server_of(uid: str) -> int:
    """The notebook server of a pod, as this machine knows it."""
    wanted = uid.replace("-", "_")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                groups = (entry / "cgroup").read_text()
                if (uid in groups or wanted in groups) and b"python" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
    raise RuntimeError(f"pod {uid} has no server")


def measure() -> tuple[list[dict], int]:
    series: dict[str, list[float]] = {name: [] for name in ("new", "opened", "executed", "back", "gated", "attached", "peer", "peer executed")}
    with tempfile.TemporaryDirectory(prefix="cubicle-bench-", dir="/var/tmp") as folder:
        trial = Trial("bench-warm")
        try:
            images = Images(Path(folder))
            trial.up("--enforcer", "cilium")
            site = Site(trial, images)
            site.install()
            trial.apply(TEMPLATE, namespace("bare"), CLAIM)
            bare(site, "bare-first", False)
            for turn in range(PEERS):
                peer = bare(site, f"bare-{turn}", False)
                series["peer"].append(peer["answered"])
                series["peer executed"].append(peer["executed"])
                series["gated"].append(bare(site, f"gated-{turn}", True)["answered"])
            site.hold(2)
            for turn in range(CLAIMS + 1):
                user = f"user{turn}"
                site.user("add", user)
                link = site.link(user)
                wait_for("two that wait", lambda: len(site.members()) == 2, 180, 0.5)
                time.sleep(2)
                came = launch(site, link)
                if came["files"]:
                    raise RuntimeError(f"a new home has {came['files']}")
                status = site.status(came["workspace"])
                where = status["namespace"]
                fill(trial.name, where)
                site.delete(came["workspace"])
                # The members of the next claim are ready when this user comes back.
                wait_for("two that wait", lambda: len(site.members()) == 2, 180, 0.5)
                time.sleep(2)
                back = launch(site, site.link(user))
                if back["files"] != sorted(FILES):
                    raise RuntimeError(f"the returning user finds {back['files']}")
                site.delete(back["workspace"])
                if turn == 0:
                    continue
                series["new"].append(came["listed"])
                series["opened"].append(came["opened"])
                series["executed"].append(came["executed"])
                series["back"].append(back["listed"])
                print(f"{turn}: new {came['listed']:.0f} ms (open {came['opened']:.0f}, cell {came['executed']:.0f}), back {back['listed']:.0f} ms", flush=True)
            member = site.members()[0]
            pod = trial.get("pod", member["metadata"]["name"], "-n", member["status"]["namespace"])
            pid = server_of(pod["metadata"]["uid"])
            for number in range(CLAIMS):
                home = Path(folder, f"home-{number}")
                home.mkdir()
                os.chown(home, 1000, 1000)
                series["attached"].append(attach(pid, home))
        finally:
            trial.command("down", trial.name, accept=(0, 1))
    peer = series["peer"]
    cases = [
        {"case": "click to the list of files, a new user (ms)", "ours": series["new"], "peer": peer},
        {"case": "of which until it is open (ms)", "ours": series["opened"]},
        {"case": "click to the first executed cell, a new user (ms)", "ours": series["executed"], "peer": series["peer executed"]},
        {"case": "click to the list of files, a returning user: launched like any other (ms)", "ours": series["back"], "peer": peer},
        {"case": "not done: a pod of the returning user that waits for the scheduler (ms)", "ours": series["gated"], "peer": peer},
        {"case": "not done: an agent of the node mounts the home into a pod that runs, the mount alone (ms)", "ours": series["attached"]},
    ]
    return cases, CLAIMS
