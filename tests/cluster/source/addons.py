"""What a usable cluster has besides nodes: a name server and a default storage class."""

from __future__ import annotations

import json
from pathlib import Path

import certificates
import control_plane
from control_plane import kubectl, start_program
from layout import DNS_IMAGE, DNS_SERVICE, NODES, OUTSIDE_NAMES, TOOLS_IMAGE, Cluster
from parts import program

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"


def apply(cluster: Cluster) -> None:
    """Creates the objects; nothing waits until they are ready."""
    names = "".join(_answer(name, address) for name, address in OUTSIDE_NAMES.items()).strip()
    text = "\n---\n".join((MANIFESTS / name).read_text() for name in ("dns.yaml", "storage.yaml"))
    for word, value in (("OUTSIDE_NAMES", names), ("DNS_IMAGE", DNS_IMAGE), ("DNS_SERVICE", DNS_SERVICE)):
        text = text.replace(word, value)
    control_plane.apply(cluster, "-f", "-", text=text)


def _answer(name: str, address: str) -> str:
    """CoreDNS's words for a name with one address and, for all other types, an empty answer.

    The plugin `hosts` would be shorter, but `template`, which ends with NXDOMAIN, always runs before it.
    """
    lines = [
        f"template IN A {name} {{",
        f'    answer "{{{{ .Name }}}} 5 IN A {address}"',
        "}",
        f"template ANY ANY {name} {{",
        "    rcode NOERROR",
        "}",
    ]
    return "".join(" " * 8 + line + "\n" for line in lines)


def start_provisioner(cluster: Cluster) -> None:
    """Starts local-path-provisioner; volumes are in the folder of their node."""
    paths = [{"node": node, "paths": [f"{cluster.node_folder(node)}/volumes"]} for node in NODES]
    config = cluster.folder / "local-path.json"
    config.write_text(json.dumps({"nodePathMap": paths}))
    helper = cluster.folder / "local-path-helper.json"
    container = {"name": "helper", "image": TOOLS_IMAGE, "imagePullPolicy": "Never"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    helper.write_text(json.dumps(pod))
    command = [
        program("local-path", "local-path-provisioner"),
        "start",
        f"--config={config}",
        f"--helper-pod-file={helper}",
        f"--helper-image={TOOLS_IMAGE}",
        f"--kubeconfig={certificates.folder(cluster)}/local-path.kubeconfig",
        "--namespace=local-path-storage",
        "--service-account-name=local-path-helper",
    ]
    start_program(cluster, "node-1", "local-path-provisioner", command)


# What becomes of pods on fake nodes.
FAKE_PODS = ("ready", "starting")


def fake_nodes(cluster: Cluster, count: int, pods: str) -> None:
    """Adds nodes that only pretend (kwok): their pods become Ready without a process, or are starting and stay so.
    What the first ones do all do.

    A pod gets there when it tolerates the taint `kwok.x-k8s.io/node=fake:NoSchedule`; with the node
    selector `type: kwok` it gets nowhere else.
    """
    if cluster.process("processes", "kwok") is None:
        command = [
            program("kwok", "kwok"),
            f"--config={MANIFESTS / 'fake-nodes.yaml'}",
            f"--config={MANIFESTS / f'fake-pods-{pods}.yaml'}",
            f"--kubeconfig={certificates.folder(cluster)}/kwok.kubeconfig",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            # Not in the range of real pods.
            "--cidr=10.245.0.0/16",
            "--node-ip=192.168.62.1",
        ]
        start_program(cluster, "node-1", "kwok", command)
    items = [_fake_node(f"fake-{number}") for number in range(count)]
    control_plane.apply(cluster, "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubectl(cluster, "wait", "--for=condition=Ready", "node", "-l", "type=kwok", "--timeout=120s")


def _fake_node(name: str) -> dict:
    capacity = {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": capacity, "capacity": capacity},
    }
