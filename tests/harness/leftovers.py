"""What a machine holds that a sandbox could leave behind."""

from __future__ import annotations

import os
import re
from pathlib import Path


# First host uid of workspaces (crates/cubicle-local/src/settle.rs).
_FIRST_ID = 0x1000_0000


def processes(home: Path) -> set[str]:
    """The product's own processes of this home."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                program = os.readlink(entry / "exe")
                if program.startswith(str(home)):
                    found.add(f"process {entry.name} {program}")
            except OSError:
                continue
    return found


def is_ours(process: Path, home: Path) -> bool:
    """Whether a process, given by its folder below /proc, is of this home or in a workspace."""
    program, group = os.readlink(process / "exe"), (process / "cgroup").read_text()
    # Pods of a cluster under test (tests/cluster) come and go beside, under uids as high.
    if "/cubicle-cluster-" in group:
        return False
    return program.startswith(str(home)) or process.stat().st_uid >= _FIRST_ID or "/cubicle/w-" in group


def _cgroups() -> set[str]:
    found = set()
    for top, directories, _ in os.walk("/sys/fs/cgroup"):
        found.update(f"cgroup {top}/{name}" for name in directories if re.fullmatch(r"w-[0-9a-z]{12}", name))
    return found


def _loops(home: Path) -> set[str]:
    found = set()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            text = backing.read_text().strip()
        except OSError:
            continue
        if text.startswith(str(home)):
            found.add(f"loop {backing.parts[3]} {text}")
    return found


def _mounts(home: Path) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {f"mount {line.split()[4]}" for line in lines if str(home) in line}


def look(home: Path) -> set[str]:
    """Everything there is now: processes, cgroups, loop devices and mounts of this home."""
    return processes(home) | _cgroups() | _loops(home) | _mounts(home)


def namespaces(home: Path) -> set[str]:
    """Every namespace that a process of this home or of a workspace is in, but the machine's own."""
    own = {os.readlink(entry) for entry in Path("/proc/self/ns").iterdir()}
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if is_ours(process, home):
                found.update(f"namespace {os.readlink(entry)}" for entry in (process / "ns").iterdir())
        except OSError:
            continue
    return {name for name in found if name.removeprefix("namespace ") not in own}


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int) -> int:
    """Resident memory of a process without what it shares, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return 0
