"""Who enforces NetworkPolicies in a cluster: Cilium, or a deliberately weak double."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import certificates
from control_plane import apply, start_program
from layout import (
    API,
    NODE_ADDRESS,
    NODE_DEVICE,
    NODE_POD_RANGE,
    NODES,
    POD_RANGE,
    Cluster,
    search_path,
)
from namespaces import run_in
from parts import BY_NAME, Problem, program

NAMES = ("cilium", "weak")
CILIUM_MODES = ("default", "never")
WEAK_MODES = ("default", "never", "ignore-ownerless")
LLVM = "/usr/lib/llvm-19/bin"


def prepare(cluster: Cluster, enforcer: str) -> None:
    """What has to be in the API server before the agents start."""
    if enforcer == "cilium":
        if not Path(LLVM, "clang").exists():
            raise Problem(f"{LLVM}/clang is missing; install the Debian packages clang-19 and llvm-19")
        apply(cluster, "-f", f"{BY_NAME['cilium'].built()}/crds", "--recursive")


def start(cluster: Cluster, enforcer: str, mode: str, delay: int) -> None:
    """Gives every node its pod network and starts the enforcer on it."""
    for node in NODES:
        if enforcer == "cilium":
            start_cilium(cluster, node, mode)
        else:
            _start_weak(cluster, node, mode, delay)


def _network(cluster: Cluster, node: str, name: str, plugins: list[dict]) -> None:
    content = {"cniVersion": "1.0.0", "name": name, "plugins": plugins}
    new = cluster.node_folder(node) / "cni" / "new"
    new.write_text(json.dumps(content))
    new.rename(new.with_name("10-pods.conflist"))


# === Cilium ===


def start_cilium(cluster: Cluster, node: str, mode: str) -> None:
    """Starts the agent of a node. It compiles its programs in some seconds before it is ready."""
    library = cluster.node_folder(node) / "cilium"
    library.mkdir(exist_ok=True)
    if not (library / "bpf").exists():
        (library / "bpf").symlink_to(BY_NAME["cilium"].built() / "bpf")
    command = [
        program("cilium", "cilium-agent"),
        f"--k8s-kubeconfig-path={certificates.folder(cluster)}/cilium.kubeconfig",
        f"--enable-policy={mode}",
        "--enable-ipv4=true",
        "--enable-ipv6=false",
        "--routing-mode=native",
        "--auto-direct-node-routes=true",
        f"--ipv4-native-routing-cidr={POD_RANGE}",
        "--ipam=kubernetes",
        "--kube-proxy-replacement=false",
        "--enable-ipv4-masquerade=false",
        "--enable-l7-proxy=false",
        "--enable-hubble=false",
        "--identity-allocation-mode=crd",
        "--cni-exclusive=false",
        "--enable-health-checking=false",
        "--enable-endpoint-health-checking=false",
        f"--devices={NODE_DEVICE[node]}",
        f"--cgroup-root={_second_hierarchy()}",
        "--bpf-root=/sys/fs/bpf",
        "--state-dir=/run/cilium",
        "--socket-path=/run/cilium/cilium.sock",
        f"--lib-dir={library}",
    ]
    without = cluster.read()["options"]["without_labels"]
    if without:
        command.append(f"--labels=k8s:!{without}")
    # Both nodes see a /run of their own, so the plugin's usual socket path is right on both.
    environment = {"K8S_NODE_NAME": node, "PATH": search_path(LLVM)}
    start_program(cluster, node, f"{node}-cilium", command, environment)


def _second_hierarchy() -> str:
    """Where cgroup version 2 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        words = line.split()
        if words[2] == "cgroup2":
            return words[1]
    raise Problem("no cgroup2 hierarchy is mounted; Cilium needs one: mount -t cgroup2 none /sys/fs/cgroup/unified")


def cilium_ready(cluster: Cluster, node: str) -> bool:
    """Whether the agent says that it is well (its API on the Unix socket; the status is in the body)."""
    socket = "/run/cilium/cilium.sock"
    code = (
        "import http.client,json,socket,sys\n"
        "s=socket.socket(socket.AF_UNIX);s.settimeout(5)\n"
        f"s.connect('{socket}');c=http.client.HTTPConnection('localhost');c.sock=s\n"
        "c.request('GET','/v1/healthz',headers={'brief':'true'})\n"
        "sys.exit(json.loads(c.getresponse().read())['cilium']['state']!='Ok')\n"
    )
    try:
        run_in(cluster.holder(node), sys.executable, "-c", code)
        return True
    except OSError:
        return False


# === the weak double ===


def _weak_folder(cluster: Cluster, node: str) -> Path:
    return cluster.node_folder(node) / "weak"


def _weak_settings(cluster: Cluster, node: str, mode: str, delay: int) -> dict:
    certificate, key = certificates.key(cluster, "enforcer")
    settings = {
        "server": API,
        "authority": certificates.key(cluster, "ca")[0],
        "certificate": certificate,
        "key": key,
        "enforce": mode != "never",
        "ignore_ownerless": mode == "ignore-ownerless",
        "delay": delay,
        "pods": POD_RANGE,
    }
    folder = _weak_folder(cluster, node)
    folder.mkdir(exist_ok=True)
    (folder / "settings.new").write_text(json.dumps(settings))
    (folder / "settings.new").rename(folder / "settings.json")
    return settings


def _start_weak(cluster: Cluster, node: str, mode: str, delay: int) -> None:
    for other in NODES:
        if other != node:
            route = ["ip", "route", "replace", NODE_POD_RANGE[other], "via", NODE_ADDRESS[other]]
            run_in(cluster.holder(node), *route, kinds=("net",))
    _weak_settings(cluster, node, mode, delay)
    script = Path(__file__).with_name("weak_enforcer.py")
    command = [sys.executable, "-B", str(script), str(_weak_folder(cluster, node))]
    start_program(cluster, node, f"{node}-enforcer", command)
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": NODE_POD_RANGE[node]}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{cluster.node_folder(node)}/addresses",
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": addresses}]
    _network(cluster, node, "weak", plugins)


# === changing the mode ===


def wait(cluster: Cluster, enforcer: str, seconds: float = 120.0) -> None:
    """Waits until the enforcer works on every node."""
    until = time.monotonic() + seconds
    waiting = list(NODES)
    while waiting and time.monotonic() < until:
        node = waiting[0]
        name = f"{node}-{'cilium' if enforcer == 'cilium' else 'enforcer'}"
        if cluster.process("processes", name) is None:
            raise Problem(f"the enforcer of {node} has ended; see {cluster.log(name)}")
        folder = _weak_folder(cluster, node)
        if enforcer == "cilium":
            ready = cilium_ready(cluster, node)
        else:
            ready = (folder / "applied").exists() and json.loads((folder / "applied").read_text()) == json.loads(
                (folder / "settings.json").read_text()
            )
        if ready:
            waiting.pop(0)
            if enforcer == "cilium":
                # Only now the node is ready for pods.
                _network(cluster, node, "cilium", [{"type": "cilium-cni"}])
        else:
            time.sleep(0.1)
    if waiting:
        raise Problem(f"the enforcer of {waiting[0]} is not ready after {seconds:.0f} s; see {cluster.folder}/logs")


def change(cluster: Cluster, mode: str, delay: int | None = None) -> None:
    """Restarts Cilium's agents with another --enable-policy, or changes the double's settings."""
    record = cluster.read()
    if delay is None:
        delay = record["options"]["delay"]
    enforcer = record["options"]["enforcer"]
    allowed = CILIUM_MODES if enforcer == "cilium" else WEAK_MODES
    if mode not in allowed:
        raise Problem(f"enforcer {enforcer} has no mode {mode!r}; it has: {', '.join(allowed)}")
    for node in NODES:
        if enforcer == "cilium":
            process = cluster.process("processes", f"{node}-cilium")
            if process is not None:
                process.end()
            start_cilium(cluster, node, mode)
        else:
            _weak_settings(cluster, node, mode, delay)
    wait(cluster, enforcer)
    record = cluster.read()
    record["options"] |= {"mode": mode, "delay": delay}
    cluster.write(record)
