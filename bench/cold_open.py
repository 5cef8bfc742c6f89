"""From the click to the first answered `/api` of a real JupyterLab, against plain `jupyter lab`
of the same image in the same run, in pairs. Milliseconds."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from product import IMAGES, Product, free_port, wait_for

PAIRS = 5
STEPS = ["request", "plan", "build", "prove", "open"]


def plain_command(rootfs: Path, home: Path, port: int, base: str = "/", token: str = "") -> list[str]:
    """Starts `jupyter lab` as anyone would, in a chroot of the same image."""
    # A mount namespace of its own: the image is read-only for it too, its home is a plain folder.
    script = (
        'set -e; mount --rbind "$1" "$1"; mount -o remount,bind,ro "$1"; mount --bind "$2" "$1/home/user"; '
        'mount -t tmpfs tmpfs "$1/tmp"; mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; '
        'exec chroot --userspec=1000:1000 "$1" /usr/bin/env -i HOME=/home/user LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin '
        '/usr/local/bin/jupyter lab --no-browser --ip 127.0.0.1 --port "$3" --ServerApp.base_url="$4" --IdentityProvider.token="$5" '
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "plain", str(rootfs), str(home), str(port), base, token]


@contextlib.contextmanager
def plain_server(rootfs: Path, token: str = ""):
    """A plain `jupyter lab` whose `/api` answers: its port, and when its start began."""
    port, home = free_port(), Path(tempfile.mkdtemp(prefix="cubicle-bench-", dir="/var/tmp"))
    os.chown(home, 1000, 1000)
    began = time.monotonic()
    process = subprocess.Popen(
        plain_command(rootfs, home, port, token=token), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )

    def answers() -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).status == 200
        except OSError:
            return False

    try:
        wait_for("plain `jupyter lab`", answers, 120, 0.02)
        yield port, began
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def plain(rootfs: Path) -> float:
    """Until `/api` of a plain `jupyter lab` answers."""
    with plain_server(rootfs) as (_, began):
        return (time.monotonic() - began) * 1000


def events(database: Path, workspace: str) -> list[dict]:
    """The steps of a launch, as the engine recorded them."""
    # They are written when whoever watches has been told.
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        select = "SELECT events FROM steps WHERE workspace = ?"
        return json.loads(wait_for("its steps", lambda: connection.execute(select, (workspace,)).fetchone(), 10, 0.05)[0])


def measure() -> tuple[list[dict], int]:
    """Pairs of (ours, plain), and the share of each of the five steps."""
    ours, peer, shares = [], [], {step: [] for step in STEPS}
    with Product() as product:
        rootfs = next(path for path in (product.home / "images").iterdir()).resolve() / "rootfs"
        plain(rootfs)  # warms the page cache for both
        warm = product.launch()["id"]
        product.run("delete", warm)
        for _ in range(PAIRS):
            began = time.monotonic()
            result = product.run("launch", "jupyterlab", "--wait", "--format", "json")
            ours.append((time.monotonic() - began) * 1000)
            workspace = json.loads(result.stdout)["id"]
            ends = {}
            for event in events(product.home / "engine/engine.db", workspace):
                if event["state"] == "done":
                    ends[event["step"]] = event["elapsed_ms"]
            last = 0
            for step in STEPS:
                if step in ends:
                    shares[step].append(float(ends[step] - last))
                    last = ends[step]
            product.run("delete", workspace)
            peer.append(plain(rootfs))
    cases = [{"case": "click to first answer (ms)", "ours": ours, "peer": peer}]
    cases += [{"case": f"of which {step} (ms)", "ours": values} for step, values in shares.items() if values]
    return cases, PAIRS
