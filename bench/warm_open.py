"""From the click to the list of the user's files with a warm sandbox, and to the first executed cell, against the
start of plain `jupyter lab` of the same image in the same run, and to its first executed cell. Milliseconds.

500 people are registered and at most 10 members are held. Half of the claims are by people whom nobody has
seen before, half by people who come back and whose home was changed after the members were ready. Nobody's
own workspace is kept running in between.
"""

import contextlib
import json
import os
import sqlite3
import sys
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import first_cell  # noqa: E402
from cold_open import STEPS, events, plain, plain_server  # noqa: E402
from person import Person  # noqa: E402
from product import Product, wait_for  # noqa: E402

CLAIMS = int(os.environ.get("CUBICLE_BENCH_CLAIMS", 10))
PEERS = int(os.environ.get("CUBICLE_BENCH_PEERS", 5))
REGISTERED = int(os.environ.get("CUBICLE_BENCH_USERS", 500))
MEMBERS = 10
FILES = [f"file-{number}.txt" for number in range(20)]


def ready(product: Product) -> int:
    return product.json("pool", "explain")["templates"]["jupyterlab"]["ready"]


def settle(product: Product) -> None:
    """Waits until the pool is full and the machine has nothing left to do for it."""
    wait_for("ten ready members", lambda: ready(product) >= MEMBERS, 300, 0.2)
    time.sleep(0.5)


def claim(person: Person, expected: set[str]) -> tuple[float, float, float, str]:
    """Launches as a browser does; until the workspace is open, until its server listed the files, and until its
    first cell was executed."""
    began = time.monotonic()
    made = person.call("POST", "/workspaces", {"template": "jupyterlab"})
    if made.status not in (201, 202):
        raise ValueError(f"not launched: {made.status} {made.text}")
    workspace = made.json()["id"]
    person.wait_until_open(workspace)
    opened = (time.monotonic() - began) * 1000
    listed = person.follow(f"/workspaces/{workspace}/open?{urllib.parse.urlencode({'next': '/api/contents'})}")
    took = (time.monotonic() - began) * 1000
    found = {entry["name"] for entry in listed.json()["content"]}
    if found != expected:
        raise ValueError(f"{found} is not {expected}")
    first_cell.execute_at_workspace(person, listed.url, f"ws://127.0.0.1:{person.port}")
    return opened, took, (time.monotonic() - began) * 1000, workspace


def visit_plain(rootfs: Path) -> tuple[float, float]:
    """Until `/api` of a plain `jupyter lab` answers, and until its first cell was executed."""
    token = "plain"
    with plain_server(rootfs, token) as (port, began):
        answered = (time.monotonic() - began) * 1000
        first_cell.execute_at_server(f"127.0.0.1:{port}", token)
        return answered, (time.monotonic() - began) * 1000


def measure() -> tuple[list[dict], int]:
    series = {"new": ([], [], []), "back": ([], [], [])}
    shares = {step: [] for step in STEPS}
    peer = []
    with Product() as product:
        rootfs = next(path for path in (product.home / "images").iterdir()).resolve() / "rootfs"
        for number in range(REGISTERED):
            product.run("user", "add", f"user{number}")
        # Ten within ten minutes, so that the policy wants ten: what it would do in a busy hour.
        with contextlib.closing(sqlite3.connect(product.home / "engine/engine.db", timeout=30)) as database, database:
            now = int(time.time())
            database.executemany("INSERT INTO arrival (template, at) VALUES ('jupyterlab', ?)", [(now,)] * MEMBERS)
        (product.home / "site.yaml").write_text(json.dumps({"warm": {"members": MEMBERS}}))
        plain(rootfs)
        settle(product)
        people = [Person(product.port).sign_in(product, f"user{number}") for number in range(CLAIMS + 1)]
        # The first of all is not counted: nobody else is the first.
        *_, workspace = claim(people[-1], set())
        product.run("delete", workspace)
        for person in people[:CLAIMS]:
            for kind in series:
                settle(product)
                *times, workspace = claim(person, set(FILES) if kind == "back" else set())
                for values, took in zip(series[kind], times):
                    values.append(took)
                ends = {event["step"]: event["elapsed_ms"] for event in events(product.home / "engine/engine.db", workspace)
                        if event["state"] == "done"}
                last = 0
                for step in STEPS:
                    shares[step].append(float(ends[step] - last))
                    last = ends[step]
                if kind == "new":
                    # Changed after the members of the next claim are ready.
                    settle(product)
                    product.exec(workspace, "/bin/sh", "-c", f"cd /home/user && touch {' '.join(FILES)} && sync")
                product.run("delete", workspace)
            if len(peer) < PEERS:
                peer.append(visit_plain(rootfs))
    answers, cells = ([visit[part] for visit in peer] for part in (0, 1))
    cases = [
        {"case": "click to the list of files, a new user (ms)", "ours": series["new"][1], "peer": answers},
        {"case": "click to the list of files, a returning user (ms)", "ours": series["back"][1], "peer": answers},
        {"case": "click to the first executed cell, a new user (ms)", "ours": series["new"][2], "peer": cells},
        {"case": "click to the first executed cell, a returning user (ms)", "ours": series["back"][2], "peer": cells},
        {"case": "of which until it is open, a new user (ms)", "ours": series["new"][0]},
        {"case": "of which until it is open, a returning user (ms)", "ours": series["back"][0]},
    ]
    cases += [{"case": f"share of {step} (ms)", "ours": values} for step, values in shares.items()]
    return cases, CLAIMS
