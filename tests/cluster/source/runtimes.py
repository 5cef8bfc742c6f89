"""Which runtime a node's containers get: runc, or one that leaves something out."""

from __future__ import annotations

import os
from pathlib import Path

from layout import NODES, Cluster
from parts import Problem, program

MODES = ("default", "ignores-user-namespaces")


def path(cluster: Cluster, node: str) -> Path:
    """What containerd runs as its runtime: a link, looked at anew for every container."""
    return cluster.node_folder(node) / "runtime"


def change(cluster: Cluster, mode: str, nodes: tuple[str, ...] = NODES) -> None:
    """Gives the nodes' new containers another runtime."""
    if mode not in MODES:
        raise Problem(f"there is no runtime {mode!r}; there are: {', '.join(MODES)}")
    for node in nodes:
        target = Path(program("runc", "runc"))
        if mode != "default":
            script = Path(__file__).with_name("careless_runtime.py")
            wrapper = cluster.node_folder(node) / "careless"
            wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/env python3 -B {script} {target} "$@"\n')
            wrapper.chmod(0o755)
            target = wrapper
        new = path(cluster, node).with_name("runtime.new")
        new.unlink(missing_ok=True)
        os.symlink(target, new)
        new.rename(path(cluster, node))
