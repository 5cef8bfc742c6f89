"""What a cluster needs of the machine: namespaces, links, routes, cgroups."""

from __future__ import annotations

import os
import time
from pathlib import Path

from layout import (
    BRIDGE,
    NODE_ADDRESS,
    NODE_POD_RANGE,
    NODES,
    OUTSIDE_ADDRESSES,
    OUTSIDE_LINK,
    OUTSIDE_RANGE,
    OUTSIDE_SERVED,
    PRIVATE,
    Cluster,
)
from namespaces import Process, hold, run_in, spawn
from parts import Problem, program

CGROUPS = Path("/sys/fs/cgroup")

# The kubelet and Cilium want these machine-wide settings. A node sees files in their place that
# already hold what is wanted, so the machine's own are never written (one of them could not be put
# back: unprivileged_bpf_disabled stays 1 until the next boot).
SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/unprivileged_bpf_disabled": "1",
    "kernel/timer_migration": "0",
}


# Twenty times the usual: pods have to answer in time also while somebody compiles on the same machine.
SHARES = {"cpu.shares": 20 * 1024, "cpu.weight": 20 * 100}


def make_namespaces(cluster: Cluster) -> None:
    """Makes both nodes and the test host, joined by links; none has a route out."""
    for name in (*NODES, "outside"):
        title = f"cubicle-cluster-{cluster.name}-{name}"
        cluster.remember("holders", name, hold(title, name == "outside", cluster.log(f"{name}-holder")))
    for node in NODES:
        _private_folders(cluster, node)
    _links(cluster)


def _private_folders(cluster: Cluster, node: str) -> None:
    settings = cluster.node_folder(node) / "settings"
    settings.mkdir()
    lines = ["set -e"]
    for folder in PRIVATE:
        lines.append(f"mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs {folder}")
    lines.append("mkdir -m 1777 /run/lock")
    lines.append("mount -t bpf bpf /sys/fs/bpf")
    # A pod in a user namespace may mount a proc only while some proc is visible without anything on top
    # (mount_too_revealing in the kernel's fs/namespace.c); /proc itself gets the settings on top.
    lines.append("mkdir /run/proc && mount -t proc -o nosuid,nodev,noexec proc /run/proc")
    for name, value in SETTINGS.items():
        file = settings / name.replace("/", ".")
        file.write_text(value + "\n")
        lines.append(f"[ ! -e /proc/sys/{name} ] || mount --bind {file} /proc/sys/{name}")
    run_in(cluster.holder(node), "sh", "-c", "\n".join(lines), kinds=("mount", "pid"))


def _links(cluster: Cluster) -> None:
    first, second, outside = (cluster.holder(name) for name in (*NODES, "outside"))
    _ip(
        first,
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"address add {NODE_ADDRESS['node-1']}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"link add to-node-2 type veth peer name eth0 netns {second.pid}",
        f"link set to-node-2 master {BRIDGE} up",
        f"link add to-outside type veth peer name eth0 netns {outside.pid}",
        f"link set to-outside master {BRIDGE} up",
    )
    _ip(second, "link set lo up", f"address add {NODE_ADDRESS['node-2']}/24 dev eth0", "link set eth0 up")
    _ip(
        outside,
        "link set lo up",
        f"address add {OUTSIDE_LINK}/24 dev eth0",
        "link set eth0 up",
        *(f"address add {address}/32 dev lo" for address in OUTSIDE_ADDRESSES),
        f"route add local {OUTSIDE_RANGE} dev lo",
        *(f"route add {NODE_POD_RANGE[node]} via {NODE_ADDRESS[node]}" for node in NODES),
    )
    # Where br_netfilter is loaded, a bridged packet passes the node's own rules. One that a node port sends
    # back to the node that it came from would then have to leave by its own port, and bridges drop that.
    run_in(first, "sh", "-c", "cd /proc/sys/net/bridge 2>/dev/null || exit 0; echo 0 >bridge-nf-call-iptables", kinds=("net",))
    for node in (first, second):
        routes = [f"route add {where} via {OUTSIDE_LINK}" for where in (*OUTSIDE_ADDRESSES, OUTSIDE_RANGE)]
        _ip(node, *routes)
        # Pods are routed through the node; packets of a pod of the other node come in by the node's device.
        for name, value in (("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")):
            run_in(node, "sh", "-c", f"echo {value} >/proc/sys/net/ipv4/{name}", kinds=("net",))


def _ip(holder: Process, *lines: str) -> None:
    run_in(holder, "ip", "-batch", "-", kinds=("net",), text="\n".join(lines) + "\n")


def start_test_host(cluster: Cluster) -> None:
    """Lets the test host answer on every port of every address, TCP and UDP."""
    outside = cluster.holder("outside")
    rules = """
        table ip outside {
            chain every-port {
                type nat hook prerouting priority dstnat; policy accept;
                ip daddr SERVED accept
                meta l4proto { tcp, udp } redirect to :7
            }
        }
    """.replace("SERVED", OUTSIDE_SERVED)
    run_in(outside, "nft", "-f", "-", kinds=("net",), text=rules)
    command = [program("dial", "dial"), "listen", "-name", "outside", "7"]
    started = spawn(outside, "test host", command, cluster.log("outside"), {})
    cluster.remember("processes", "outside", started)


# === cgroups ===


def _hierarchies() -> list[Path]:
    """The top of every hierarchy: one with version 2, several with version 1 or both."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def make_cgroups(cluster: Cluster) -> None:
    """Makes the group of each node in every hierarchy."""
    for node in NODES:
        for top in _hierarchies():
            group = top / cluster.cgroup(node)
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (group / name).exists() and (top / name).exists():
                    # A new group of version 1 has no processors until it is told.
                    (group / name).write_text((top / name).read_text().strip())
            for name, share in SHARES.items():
                if (group / name).exists():
                    (group / name).write_text(str(share))


def remove_cgroups(cluster: Cluster) -> None:
    """Removes these groups and all below; their processes have ended."""
    for node in NODES:
        for top in _hierarchies():
            _remove_group(top / cluster.cgroup(node))


def _remove_group(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        until = time.monotonic() + 10
        while True:
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError as error:
                # A group is busy until the kernel has let go of its last process.
                if time.monotonic() > until:
                    raise Problem(f"{folder} cannot be removed: {error}; see {folder}/cgroup.procs") from error
                time.sleep(0.05)
