"""etcd, API server, controller manager and scheduler, in the namespaces of node-1."""

from __future__ import annotations

import time

import certificates
from layout import NODE_ADDRESS, POD_RANGE, SERVICE_RANGE, Cluster, search_path
from namespaces import run_in, spawn
from parts import Problem, program

ADDRESS = NODE_ADDRESS["node-1"]


def start_program(cluster: Cluster, node: str, name: str, command: list[str], environment=None) -> None:
    """Starts a program in a node and records it; its log is logs/NAME.log."""
    given = {"PATH": search_path(), "HOME": str(cluster.folder)} | (environment or {})
    # For `cluster restart`.
    cluster.remember("commands", name, {"node": node, "command": command, "environment": given})
    started = spawn(cluster.holder(node), name, command, cluster.log(name), given)
    cluster.remember("processes", name, started)


def start(cluster: Cluster) -> None:
    """Starts etcd and the API server and waits until it is ready, then the other two."""
    ca, ca_key = certificates.key(cluster, "ca")
    _start_etcd(cluster, ca)
    _start_api_server(cluster, ca)
    wait_for_api(cluster)
    keys = certificates.folder(cluster)
    common = ["--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000", "--bind-address=127.0.0.1"]
    manager = [
        program("kubernetes", "kube-controller-manager"),
        *common,
        f"--kubeconfig={keys}/controller-manager.kubeconfig",
        "--use-service-account-credentials=true",
        f"--root-ca-file={ca}",
        f"--service-account-private-key-file={keys}/service-account.key",
        f"--cluster-signing-cert-file={ca}",
        f"--cluster-signing-key-file={ca_key}",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={POD_RANGE}",
        "--node-cidr-mask-size=24",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        # It makes this folder; its own choice is the machine's.
        f"--flex-volume-plugin-dir={cluster.node_folder('node-1')}/volume-plugins",
    ]
    start_program(cluster, "node-1", "kube-controller-manager", manager)
    scheduler = [program("kubernetes", "kube-scheduler"), *common, f"--kubeconfig={keys}/scheduler.kubeconfig"]
    start_program(cluster, "node-1", "kube-scheduler", scheduler)


def _start_etcd(cluster: Cluster, ca: str) -> None:
    certificate, private = certificates.key(cluster, "etcd")
    command = [
        program("kubernetes", "etcd"),
        "--name=node-1",
        f"--data-dir={cluster.folder}/etcd",
        # Also on the node's address: a probe that must not get there needs something that is there.
        f"--listen-client-urls=https://127.0.0.1:2379,https://{ADDRESS}:2379",
        f"--advertise-client-urls=https://{ADDRESS}:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=node-1=http://127.0.0.1:2380",
        "--client-cert-auth=true",
        f"--trusted-ca-file={ca}",
        f"--cert-file={certificate}",
        f"--key-file={private}",
        # A test cluster need not survive a power cut.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    start_program(cluster, "node-1", "etcd", command)


def _start_api_server(cluster: Cluster, ca: str) -> None:
    certificate, private = certificates.key(cluster, "apiserver")
    etcd_certificate, etcd_key = certificates.key(cluster, "etcd-client")
    kubelet_certificate, kubelet_key = certificates.key(cluster, "kubelet-client")
    keys = certificates.folder(cluster)
    command = [
        program("kubernetes", "kube-apiserver"),
        "--etcd-servers=https://127.0.0.1:2379",
        f"--etcd-cafile={ca}",
        f"--etcd-certfile={etcd_certificate}",
        f"--etcd-keyfile={etcd_key}",
        f"--advertise-address={ADDRESS}",
        "--secure-port=6443",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={private}",
        f"--client-ca-file={ca}",
        f"--kubelet-client-certificate={kubelet_certificate}",
        f"--kubelet-client-key={kubelet_key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys}/service-account.pub",
        f"--service-account-signing-key-file={keys}/service-account.key",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    start_program(cluster, "node-1", "kube-apiserver", command)


def wait_for_api(cluster: Cluster, seconds: float = 90.0) -> None:
    """Waits until the API server says that it is ready."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            kubectl(cluster, "get", "--raw=/readyz")
            return
        except OSError as error:
            reason = error
        if cluster.process("processes", "kube-apiserver") is None:
            raise Problem(f"the API server has ended; see {cluster.log('kube-apiserver')}")
        time.sleep(0.1)
    raise Problem(f"the API server is not ready after {seconds:.0f} s ({reason}); see {cluster.log('kube-apiserver')}")


def kubectl(cluster: Cluster, *words: str, text: str | None = None) -> str:
    """Runs kubectl as admin in the cluster's network namespace."""
    command = [program("kubernetes", "kubectl"), f"--kubeconfig={cluster.kubeconfig}", *words]
    return run_in(cluster.holder("node-1"), *command, kinds=("net",), text=text)


def apply(cluster: Cluster, *words: str, text: str | None = None, seconds: float = 90.0) -> None:
    """Applies objects, again while the API server is too busy to answer in time."""
    until = time.monotonic() + seconds
    while True:
        try:
            # Validation would fetch the whole OpenAPI document first.
            kubectl(cluster, "apply", "--server-side", "--force-conflicts", "--validate=false", *words, text=text)
            return
        except OSError as error:
            if time.monotonic() > until:
                raise Problem(f"objects cannot be applied: {error}") from error
            time.sleep(0.5)
