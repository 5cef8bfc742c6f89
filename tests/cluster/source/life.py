"""Starting, describing and removing a cluster."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import addons
import certificates
import control_plane
import enforcers
import images
import machine
import node as nodes
from layout import DNS_IMAGE, NODES, PRIVATE, TOOLS_IMAGE, Cluster, make_base
from namespaces import Process
from parts import BY_NAME, Problem, build, cache

# Options that `cluster enforcer` changes.
CHANGED = {"mode": "", "delay": 0}
NEEDED = ["kubernetes", "runc", "cni", "dial", "containerd", "coredns", "local-path"]


def up(cluster: Cluster, options: dict, say) -> None:
    """Starts a cluster with these options; one that is up with the same options is left as it is."""
    make_base()
    if str(cache().resolve()).startswith(PRIVATE):
        raise Problem(f"CUBICLE_CACHE is below a folder that nodes do not see; choose one outside {PRIVATE}")
    if len(str(nodes.containerd_socket(cluster, NODES[0]))) > 90:
        raise Problem(f"{cluster.folder} is too long for sockets (107 bytes, unix(7)); set CUBICLE_CLUSTERS shorter")
    build(needed(options["enforcer"]), say)
    with cluster.locked():
        record = cluster.read()
        if record.get("state") == "up" and all(cluster.process("holders", name) for name in (*NODES, "outside")):
            if record["options"] | CHANGED != options | CHANGED:
                raise Problem(
                    f"cluster {cluster.name} is up with other options ({_words(record['options'])}); "
                    f"`cluster down {cluster.name}` first"
                )
            for name in record.get("commands", {}):
                if cluster.process("processes", name) is None:
                    say(f"{name} has ended and is started again")
                    restart(cluster, name)
            return
        if cluster.folder.exists():
            say("an unfinished cluster of this name is removed first")
            _remove(cluster)
        _start(cluster, options, say)


def needed(enforcer: str) -> list[str]:
    """The parts that a cluster with this enforcer needs."""
    return NEEDED + (["cilium"] if enforcer == "cilium" else [])


def _words(options: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _start(cluster: Cluster, options: dict, say) -> None:
    began = time.monotonic()

    def step(what: str) -> None:
        say(f"{time.monotonic() - began:6.1f} s  {what}")

    cluster.folder.mkdir(mode=0o700)
    for name in ("logs", "images", *NODES):
        (cluster.folder / name).mkdir()
    used = [str(BY_NAME[part].built()) for part in needed(options["enforcer"])]
    cluster.write({"state": "starting", "options": options, "parts": used})
    machine.make_namespaces(cluster)
    machine.make_cgroups(cluster)
    machine.start_test_host(cluster)
    for each in NODES:
        nodes.start_containerd(cluster, each)
    certificates.make(cluster)
    step("namespaces, links, keys")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(_load_own_images, cluster)
        control_plane.start(cluster)
        step("API server ready")
        loading.result()
    step("images imported")
    objects = {"apiVersion": "v1", "kind": "List", "items": [nodes.node_object(each) for each in NODES]}
    control_plane.apply(cluster, "-f", "-", text=json.dumps(objects))
    for each in NODES:
        nodes.start_kubelet(cluster, each, options["pids_limit"])
        nodes.start_proxy(cluster, each)
    enforcers.prepare(cluster, options["enforcer"])
    enforcers.start(cluster, options["enforcer"], options["mode"], options["delay"])
    addons.apply(cluster)
    addons.start_provisioner(cluster)
    enforcers.wait(cluster, options["enforcer"])
    step(f"enforcer {options['enforcer']} ready")
    control_plane.kubectl(cluster, "wait", "--for=condition=Ready", "node", "--all", "--timeout=90s")
    step("nodes ready")
    rolled = ["rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=90s"]
    control_plane.kubectl(cluster, *rolled)
    step("name server ready")
    record = cluster.read()
    record["state"] = "up"
    cluster.write(record)


def _load_own_images(cluster: Cluster) -> None:
    for each in NODES:
        nodes.wait_for_containerd(cluster, each)
    for image in (TOOLS_IMAGE, DNS_IMAGE):
        archive = cluster.folder / "images" / f"{image.rpartition('/')[2].replace(':', '-')}.tar"
        images.write(archive, image)
        for each in NODES:
            nodes.load(cluster, each, str(archive))
        archive.unlink()


def down(cluster: Cluster) -> bool:
    """Removes a cluster; False when there is none."""
    with cluster.locked():
        if not cluster.folder.exists():
            return False
        _remove(cluster)
    return True


def _remove(cluster: Cluster) -> None:
    record = cluster.read()
    # Nobody needs to end in order: what they would save is removed. With the first process of a node
    # the kernel ends all others of its pid namespace, whoever started them.
    for found in record.get("holders", {}).values():
        Process(**found).end(forced=True)
    for found in record.get("processes", {}).values():
        # The test host has no pid namespace of its own; the others have ended by now.
        Process(**found).end(forced=True)
    machine.remove_cgroups(cluster)
    # A notebook's image has a hundred thousand files per node: Python would take minutes for them.
    subprocess.run(["rm", "-rf", "--one-file-system", cluster.folder], check=True)


def status(cluster: Cluster) -> dict:
    """What of the cluster runs."""
    record = cluster.read()
    if not record:
        return {"name": cluster.name, "state": "absent"}
    kinds = ("holders", "processes")
    ended = [name for kind in kinds for name in record.get(kind, {}) if cluster.process(kind, name) is None]
    return {
        "name": cluster.name,
        "state": record["state"] if not ended else "damaged",
        "ended": ended,
        "options": record["options"],
        "kubeconfig": str(cluster.kubeconfig),
        "folder": str(cluster.folder),
    }


def kill(cluster: Cluster, name: str) -> None:
    """Ends one program as a crash would (SIGKILL)."""
    commands = cluster.read().get("commands", {})
    if name not in commands:
        raise Problem(f"cluster {cluster.name} has no program {name!r}; it has: {', '.join(commands)}")
    process = cluster.process("processes", name)
    if process is not None:
        process.end(forced=True)


def restart(cluster: Cluster, name: str) -> None:
    """Starts one program again as it was started; if it runs, it is killed first. Waits for nothing."""
    kill(cluster, name)
    found = cluster.read()["commands"][name]
    control_plane.start_program(cluster, found["node"], name, found["command"], found["environment"])


def change_pids_limit(cluster: Cluster, limit: int) -> None:
    """Starts the kubelets again with another limit of processes, and waits until the nodes are ready."""
    for each in NODES:
        nodes.change_pids_limit(cluster, each, limit)
        restart(cluster, f"{each}-kubelet")
    record = cluster.read()
    record["options"]["pids_limit"] = limit
    cluster.write(record)
    # Ready as they are remembered; a kubelet that does not come back shows by itself.
    for each in NODES:
        nodes.wait_for_kubelet(cluster, each)


def load(cluster: Cluster, archive: Path) -> list[str]:
    """Imports an image archive into both nodes; returns containerd's lines."""
    if not archive.is_file():
        raise Problem(f"{archive} is not a file; give an OCI image archive")
    lines = []
    for each in NODES:
        cluster.holder(each)
        lines.append(f"{each}: {nodes.load(cluster, each, str(archive)).strip()}")
    return lines
