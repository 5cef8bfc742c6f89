"""containerd, kubelet and kube-proxy of one node."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import certificates
import runtimes
from control_plane import start_program
from layout import (
    DNS_SERVICE,
    NODE_ADDRESS,
    NODE_POD_RANGE,
    POD_RANGE,
    TOOLS_IMAGE,
    Cluster,
)
from namespaces import enter_command, run_in
from parts import BY_NAME, Problem, program


def node_object(node: str) -> dict:
    """The Node, made before its kubelet registers so that its pod range is known from the start."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node, "labels": {"kubernetes.io/hostname": node}},
        "spec": {"podCIDR": NODE_POD_RANGE[node], "podCIDRs": [NODE_POD_RANGE[node]]},
    }


def containerd_socket(cluster: Cluster, node: str) -> Path:
    """Where the node's containerd listens."""
    return cluster.node_folder(node) / "containerd.sock"


def start_containerd(cluster: Cluster, node: str) -> None:
    """Starts containerd; it answers some tenths of a second later."""
    folder = cluster.node_folder(node)
    (folder / "cni").mkdir(exist_ok=True)
    runtimes.change(cluster, "default", (node,))
    config = folder / "containerd.toml"
    config.write_text(_containerd_config(cluster, node))
    command = [program("containerd", "containerd"), "--config", str(config), "--log-level", "info"]
    # It finds its shims by PATH.
    start_program(cluster, node, f"{node}-containerd", command)


def _containerd_config(cluster: Cluster, node: str) -> str:
    folder = cluster.node_folder(node)
    plugins = [str(BY_NAME[part].built()) for part in ("cni", "cilium") if BY_NAME[part].built().is_dir()]
    return f"""
version = 3
root = "{folder}/containerd"
state = "/run/containerd"

[grpc]
address = "{containerd_socket(cluster, node)}"

[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"

[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{TOOLS_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
# Without CAP_SYS_RESOURCE nobody can lower an oom_score_adj.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_apparmor = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = {json.dumps(plugins)}
conf_dir = "{folder}/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runtimes.path(cluster, node)}"
SystemdCgroup = false
"""


def wait_for_containerd(cluster: Cluster, node: str, seconds: float = 60.0) -> None:
    """Waits until containerd takes connections."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as attempt:
            try:
                attempt.connect(str(containerd_socket(cluster, node)))
                return
            except OSError:
                time.sleep(0.05)
        if cluster.process("processes", f"{node}-containerd") is None:
            break
    raise Problem(f"containerd of {node} does not answer; see {cluster.log(f'{node}-containerd')}")


def load(cluster: Cluster, node: str, archive: str) -> str:
    """Imports an image archive (OCI or Docker) into a node; returns what containerd says."""
    command = [*enter_command(cluster.holder(node), "net", "mount")]
    # ctr wants an absolute socket path, or it waits for ever.
    command += [program("containerd", "ctr"), "--address", str(containerd_socket(cluster, node))]
    with open(archive, "rb") as content:
        # On standard input: the archive may be in a folder that the node does not see.
        words = [*command, "--namespace", "k8s.io", "images", "import", "-"]
        done = subprocess.run(words, stdin=content, capture_output=True, text=True)
    if done.returncode != 0:
        raise Problem(f"{node} cannot import {archive}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def start_kubelet(cluster: Cluster, node: str, pids_limit: int) -> None:
    """Starts the kubelet; `pids_limit` -1 means none."""
    folder = cluster.node_folder(node)
    (folder / "resolv.conf").write_text("")
    config = folder / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(cluster, node, pids_limit), indent=1))
    command = [
        program("kubernetes", "kubelet"),
        f"--config={config}",
        f"--kubeconfig={certificates.folder(cluster)}/{node}.kubeconfig",
        f"--root-dir={folder}/kubelet",
        f"--cert-dir={folder}/kubelet-keys",
        f"--hostname-override={node}",
        f"--node-ip={NODE_ADDRESS[node]}",
    ]
    start_program(cluster, node, f"{node}-kubelet", command)


def wait_for_kubelet(cluster: Cluster, node: str, seconds: float = 60.0) -> None:
    """Waits until the kubelet says that it is well."""
    until = time.monotonic() + seconds
    code = "import urllib.request as r; r.urlopen('http://127.0.0.1:10248/healthz', timeout=2)"
    while True:
        try:
            run_in(cluster.holder(node), sys.executable, "-c", code, kinds=("net",))
            return
        except OSError as error:
            if time.monotonic() > until or cluster.process("processes", f"{node}-kubelet") is None:
                raise Problem(f"the kubelet of {node} is not well: {cluster.log(f'{node}-kubelet')}") from error
        time.sleep(0.1)


def change_pids_limit(cluster: Cluster, node: str, pids_limit: int) -> None:
    """What new pods get once the kubelet was started again."""
    config = cluster.node_folder(node) / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(cluster, node, pids_limit), indent=1))


def _kubelet_config(cluster: Cluster, node: str, pids_limit: int) -> dict:
    folder = cluster.node_folder(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        # A second kubelet on the same root would end the first one's pods.
        "cgroupRoot": f"/{cluster.cgroup(node)}",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "podPidsLimit": pids_limit,
        "resolvConf": f"{folder}/resolv.conf",
        "podLogsDir": f"{folder}/pods",
        "volumePluginDir": f"{folder}/volume-plugins",
        "containerRuntimeEndpoint": f"unix://{containerd_socket(cluster, node)}",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": certificates.key(cluster, "ca")[0]},
        },
        "authorization": {"mode": "Webhook"},
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        # Images come by `cluster load`; there is no registry to fetch a removed one from.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "maxPods": 110,
    }


def start_proxy(cluster: Cluster, node: str) -> None:
    """Starts kube-proxy, which makes Services of nftables rules."""
    config = cluster.node_folder(node) / "proxy.json"
    nothing = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    content = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": f"{certificates.folder(cluster)}/proxy.kubeconfig"},
        "hostnameOverride": node,
        "oomScoreAdj": 0,
        "conntrack": nothing,
    }
    config.write_text(json.dumps(content, indent=1))
    command = [program("kubernetes", "kube-proxy"), f"--config={config}"]
    start_program(cluster, node, f"{node}-kube-proxy", command)
