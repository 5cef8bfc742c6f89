"""The reachability audit: against netpol-analyzer, whose binary NETPOL_ANALYZER names, with
identical answers checked, in both layouts (a namespace per user, one namespace for all); then
alone on large clusters, and after one change. Milliseconds; memory in MiB."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYOUTS = {"perns": "a namespace per user", "onens": "one namespace"}
WORKSPACES = [100, 200, 400]
LARGE, IN_MEMORY, RUNS = 10_000, 100_000, 5


def built() -> Path:
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "-p", "cubicle-audit", "--example", "speed"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release/examples/speed"


def run(*command: object) -> tuple[str, float]:
    began = time.monotonic()
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return result.stdout, (time.monotonic() - began) * 1000


def connections(text: str) -> set[str]:
    """The lines between pods; netpol-analyzer also lists ranges of addresses."""
    return {line.strip() for line in text.splitlines() if " => " in line and "[External]" not in line}


def measure() -> tuple[list[dict], int]:
    """Cases for `bench/run audit`."""
    speed, peer = built(), os.environ.get("NETPOL_ANALYZER")
    if not peer:
        print("netpol-analyzer is not measured: NETPOL_ANALYZER names no binary")
    cases = []
    with tempfile.TemporaryDirectory(prefix="cubicle-bench-") as scratch:
        for layout, name in LAYOUTS.items():
            for count in WORKSPACES:
                folder = Path(scratch) / f"{layout}-{count}"
                run(speed, "write", layout, count, folder)
                case = {"case": f"{name}, {count} workspaces (ms)", "ours": [run(speed, "list", folder)[1] for _ in range(RUNS)]}
                if peer:
                    # It takes minutes on the larger ones, so it is asked once.
                    theirs, took = run(peer, "list", "--quiet", "--dirpath", folder)
                    ours = run(speed, "list", folder)[0]
                    if connections(ours) != connections(theirs):
                        difference = sorted(connections(ours) ^ connections(theirs))
                        raise SystemExit(f"error: the answers differ on {folder.name}, for example {difference[:5]}")
                    case["peer"] = [took]
                else:
                    case["peer_missing"] = "netpol-analyzer: NETPOL_ANALYZER is not set"
                cases.append(case)
        for layout, name in LAYOUTS.items():
            folder = Path(scratch) / f"{layout}-large"
            run(speed, "write", layout, LARGE, folder)
            large = [json.loads(run(speed, "read", folder)[0]) for _ in range(RUNS)]
            cases.append({"case": f"{name}, {LARGE} pods and policies from files (ms)", "ours": [one["total_ms"] for one in large]})
            cases.append({"case": f"{name}, the same, most memory (MiB)", "ours": [one["peak_kib"] / 1024 for one in large]})
            memory = [json.loads(run(speed, "memory", layout, IN_MEMORY)[0]) for _ in range(RUNS)]
            cases.append({"case": f"{name}, {IN_MEMORY} pods and policies in memory (ms)", "ours": [one["total_ms"] for one in memory]})
            change = json.loads(run(speed, "change", layout, LARGE)[0])
            for what in ("policy", "pod"):
                cases.append({"case": f"{name}, {LARGE}, one {what} changed (ms)", "ours": change[f"{what}_ms"]})
    return cases, RUNS
