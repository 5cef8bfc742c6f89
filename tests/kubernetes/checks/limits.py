"""What a pod may use: a process of the tenant's tries to have more, beside a pod without limits that gets it."""

from __future__ import annotations

import re

from cases import Bench
from installation import namespace_of
from product import Suite, check
from trial import namespace, pod

# Of the template (installation.py): 500m of a processor, 256Mi of memory.
SHARE, LITTLE, MUCH = 0.5, "64M", "400M"
SECONDS, LOOPS = 4, 3
BUSY = f'for one in $(seq {LOOPS}); do timeout {SECONDS} sh -c "while :; do :; done" & done; wait; times'


def processor_seconds(said: str) -> float:
    """What `times` says that the children of a shell have used, in seconds."""
    found = re.findall(r"(\d+)m([\d.]+)s", said)
    check(len(found) == 4, f"`times` said {said!r}")
    return sum(int(minutes) * 60 + float(seconds) for minutes, seconds in found[2:])


def cases(suite: Suite, bench: Bench) -> None:
    trial = bench.trial
    with suite.case(f"{trial.name}: more processor and memory than the template says is tried, and not had"):
        name, status = bench.site.launch()
        check(status["state"] == "running", str(status))
        where = namespace_of(name)
        trial.apply(namespace("unlimited"), pod("unlimited", "control", "/bin/dial", "pause"))
        trial.wait_ready("unlimited", "control")

        def tried(space: str, who: str, script: str) -> str:
            return trial.kubectl(
                "exec", "-n", space, who, "--", "/bin/sh", "-c", script, accept=tuple(range(256))
            )

        def memory(size: str) -> str:
            # All of the block is in memory at once.
            return f"dd if=/dev/zero of=/dev/null bs={size} count=1 2>/dev/null && echo had"

        with bench.unbound():
            used = processor_seconds(tried(where, name, BUSY))
            free = processor_seconds(tried("unlimited", "control", BUSY))
            check(free > 1.4 * SHARE * SECONDS, f"the control: without a limit {LOOPS} loops had {free} s in {SECONDS} s")
            check(used < 1.2 * SHARE * SECONDS, f"{LOOPS} loops had {used} s in {SECONDS} s; the limit is {SHARE}")
            check("had" in tried("unlimited", "control", memory(MUCH)), f"the control: {MUCH} were not had")
            check("had" in tried(where, name, memory(LITTLE)), f"the control: {LITTLE} were not had")
            check("had" not in tried(where, name, memory(MUCH)), f"{MUCH} were had; the limit is 256Mi")
        print(f"       processor: {used:.2f} s of {SECONDS} s, without a limit {free:.2f} s; memory: {LITTLE}, not {MUCH}")
        trial.kubectl("delete", "namespace", "unlimited")
        bench.site.delete(name)
