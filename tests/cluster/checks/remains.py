"""What a cluster could leave on a machine, for a comparison of before and after."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from layout import BASE
from machine import SETTINGS

# Where Kubernetes, containerd and Cilium write when nobody stops them.
USUAL = (
    "/etc/cni",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/run/cilium",
    "/run/containerd",
    "/run/flannel",
    "/run/netns",
    "/run/runc",
    "/run/xtables.lock",
    "/sys/fs/bpf",
    "/usr/libexec/kubernetes",
    "/var/lib/calico",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)


def _said(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def look(*names: str) -> set[str]:
    """Everything there is now: folders, mounts, links, rules, settings, and what bears these clusters' names."""
    found = set()
    for path in USUAL:
        if os.path.exists(path):
            found.add(f"folder {path} {sorted(os.listdir(path)) if os.path.isdir(path) else ''}")
    kept = [BASE / end for name in names for end in (name, f"{name}.lock")]
    found |= {f"cluster {path}" for path in kept if path.exists()}
    found |= {f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    found |= {f"link {line.split()[0]}" for line in _said("ip", "-brief", "link")}
    found |= {f"route {line}" for line in _said("ip", "route", "show", "table", "all")}
    found |= {f"rule {line}" for line in _said("nft", "list", "ruleset")}
    ours = ("kubepods", *(f"cubicle-cluster-{name}-" for name in names))
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        # Other clusters have their own kubepods, which come and go.
        folders[:] = [name for name in folders if name.startswith(ours) or not name.startswith("cubicle-cluster-")]
        found |= {f"group {top}/{name}" for name in folders if name.startswith(ours)}
    for name in SETTINGS:
        path = Path("/proc/sys") / name
        if path.exists():
            found.add(f"setting {name} {path.read_text().strip()}")
    return found | _processes(names)


def _processes(names: tuple[str, ...]) -> set[str]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        if any(words.startswith(f"cubicle-cluster-{name}-") or f"{BASE}/{name}/" in words for name in names):
            found.add(f"process {entry.name} {words.replace(chr(0), ' ')[:120]}")
    return found


def namespaces(pids: list[int]) -> set[str]:
    """The namespaces of these processes that are not the machine's own."""
    found = set()
    for pid in pids:
        for kind in ("net", "mnt", "pid"):
            link = os.readlink(f"/proc/{pid}/ns/{kind}")
            if link != os.readlink(f"/proc/self/ns/{kind}"):
                found.add(link)
    return found


def users_of(wanted: set[str]) -> set[str]:
    """Who is still in one of these namespaces."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/ns/*"):
        try:
            if os.readlink(entry) in wanted:
                found.add(f"{entry} is in {os.readlink(entry)}")
        except OSError:
            continue
    return found
