"""Keys, certificates and kubeconfig files of a cluster, made with openssl for two days."""

from __future__ import annotations

import base64
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from layout import API, API_SERVICE, NODE_ADDRESS, NODES, Cluster

# Who may call the API server: file name -> (common name, organisation).
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "cilium": ("cilium", "system:masters"),
    "enforcer": ("weak-enforcer", "system:masters"),
    "local-path": ("local-path-provisioner", "system:masters"),
    "kwok": ("kwok", "system:masters"),
    "etcd-client": ("kube-apiserver-etcd-client", ""),
    **{node: (f"system:node:{node}", "system:nodes") for node in NODES},
}
SERVERS = {
    "apiserver": ",".join(
        [
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            "DNS:kubernetes.default.svc.cluster.local",
            "IP:127.0.0.1",
            f"IP:{API_SERVICE}",
            f"IP:{NODE_ADDRESS['node-1']}",
        ]
    ),
    "etcd": f"IP:127.0.0.1,IP:{NODE_ADDRESS['node-1']}",
}


def folder(cluster: Cluster) -> Path:
    """Where the keys are."""
    return cluster.folder / "keys"


def key(cluster: Cluster, name: str) -> tuple[str, str]:
    """The files of a certificate and its key."""
    return str(folder(cluster) / f"{name}.crt"), str(folder(cluster) / f"{name}.key")


def make(cluster: Cluster) -> None:
    """Makes them all, and a kubeconfig for each client."""
    folder(cluster).mkdir(mode=0o700)
    _certificate(cluster, "ca", "/CN=cubicle-cluster", ["basicConstraints=critical,CA:TRUE"], None)
    _openssl(folder(cluster), "genpkey", *_KEY, "-out", "service-account.key")
    _openssl(folder(cluster), "pkey", "-in", "service-account.key", "-pubout", "-out", "service-account.pub")
    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for name, (common, organisation) in CLIENTS.items():
            subject = (f"/O={organisation}" if organisation else "") + f"/CN={common}"
            waiting.append(pool.submit(_certificate, cluster, name, subject, ["extendedKeyUsage=clientAuth"], "ca"))
        for name, addresses in SERVERS.items():
            usage = ["extendedKeyUsage=serverAuth,clientAuth", f"subjectAltName={addresses}"]
            waiting.append(pool.submit(_certificate, cluster, name, f"/CN={name}", usage, "ca"))
        for each in waiting:
            each.result()
    for name in CLIENTS:
        path = cluster.kubeconfig if name == "admin" else folder(cluster) / f"{name}.kubeconfig"
        path.write_text(json.dumps(_kubeconfig(cluster, name), indent=1))
        path.chmod(0o600)


_KEY = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def _openssl(where: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=where, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"openssl {words[0]} failed: {done.stderr}")


def _certificate(cluster: Cluster, name: str, subject: str, extensions: list[str], issuer: str | None) -> None:
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
    words += ["-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", subject]
    for extension in extensions:
        words += ["-addext", extension]
    if issuer:
        words += ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    _openssl(folder(cluster), *words)


def _kubeconfig(cluster: Cluster, name: str) -> dict:
    certificate, private = key(cluster, name)
    authority, _ = key(cluster, "ca")

    def encoded(path: str) -> str:
        return base64.b64encode(Path(path).read_bytes()).decode()

    # Everything inside, so that the one file can be given to a client anywhere.
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster.name, "cluster": {"server": API, "certificate-authority-data": encoded(authority)}}
        ],
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": encoded(certificate), "client-key-data": encoded(private)},
            }
        ],
        "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": name}}],
        "current-context": cluster.name,
    }
