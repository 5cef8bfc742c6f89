"""kill -9 in the middle of launches: controller, hubs, API server, kubelets. Afterwards everything is true."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from cases import Bench
from installation import ENDED, SYSTEM, Site, namespace_of
from product import Failed, Suite, check, wait_for

# Seconds; the controller's longest wait between two attempts is 30.
STABLE = 45
# Workspaces that stand at once; more than the nodes have room for would only fail.
KEPT = 8
UNCLAIMED = "cubicle.dev/unclaimed"
VICTIMS = ("controller", "hub", "kube-apiserver", "node-1-kubelet", "node-2-kubelet")


def kill(site: Site, victim: str) -> None:
    """Ends a program as a crash would; what nobody else starts again is started again."""
    trial = site.trial
    if victim not in ("controller", "hub"):
        trial.command("restart", trial.name, victim)
        return
    for pid in processes(trial.name, victim):
        os.kill(pid, signal.SIGKILL)


def controllers(cluster: str) -> list[int]:
    """The controller's processes in this cluster."""
    return processes(cluster, "controller")


def processes(cluster: str, name: str) -> list[int]:
    """The platform's processes of this name in this cluster."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            group = (entry / "cgroup").read_text()
        except OSError:
            continue
        if command[:2] == [b"/usr/local/bin/cubicle", name.encode()] and f"/cubicle-cluster-{cluster}-" in group:
            found.append(int(entry.name))
    return found


def cases(suite: Suite, bench: Bench, count: int) -> None:
    """So many random kills, each during a launch."""
    site, control = bench.site, bench.control
    seed = int(os.environ.get("CUBICLE_TEST_SEED", time.time()))
    random.seed(seed)
    made: list[str] = []
    names = []
    ends: dict[str, tuple] = {}
    # How each launch came out that was looked at and deleted since: the nodes have room for so many only.
    over: dict[str, str] = {}

    def settle(name: str) -> None:
        site.ended(name, seconds=240)
        truth(site, name, site.status(name))
        over[name] = site.status(name)["state"]

    with suite.case(f"{count} random kills during launches (seed {seed}): every workspace ends in a true state"):
        for _ in range(count):
            victim = random.choice(VICTIMS)
            made.append(site.create())
            # A launch takes some seconds; the kill may fall into each of its states.
            time.sleep(random.uniform(0, 6))
            kill(site, victim)
            names.append(victim)
            wait_for("the API server", lambda: "ok" in site.trial.said("get", "--raw=/readyz"), seconds=60)
            steady(site, made, ends)
            while len(made) > KEPT:
                oldest = made.pop(0)
                settle(oldest)
                site.delete(oldest)
        wait_for("the controller", lambda: controllers(site.trial.name), seconds=120)
        for name in made:
            settle(name)
        steady(site, made, ends)
        counts = {state: list(over.values()).count(state) for state in sorted(set(over.values()))}
        print(f"       killed: { {victim: names.count(victim) for victim in VICTIMS} }; launches: {counts}", flush=True)
        # Otherwise the kills fell into nothing.
        check(counts.get("running", 0) >= count // 2, f"too few launches opened: {counts}")
        # For longer than the controller waits between two attempts.
        until = time.monotonic() + STABLE
        while time.monotonic() < until:
            steady(site, made, ends)
            time.sleep(1)
        for name in made:
            truth(site, name, site.status(name))
        check(site.status(control)["state"] == "running", "a workspace that ran before does not run")

    with suite.case("afterwards: no pod without its workspace, no volume without its claim, nothing twice"):
        known = {one["metadata"]["name"]: one for one in site.trial.get("workspaces")["items"]}
        pods = site.trial.get("pods", "-A", "-l", "cubicle.dev/workspace")["items"]
        for one in pods:
            owner = one["metadata"]["ownerReferences"][0]
            check(owner["name"] in known and owner["uid"] == known[owner["name"]]["metadata"]["uid"], str(owner))
        running = sorted(name for name, one in known.items() if one["status"]["state"] == "running")
        # A twin, in which a later proof is made, comes and goes beside a workspace that runs.
        twins = {f"{name}-twin" for name in running}

        def names() -> list[str]:
            found = site.trial.get("pods", "-A", "-l", "cubicle.dev/workspace")["items"]
            return sorted(one["metadata"]["name"] for one in found if one["metadata"]["name"] not in twins)

        try:
            wait_for("no other pods than those of what runs", lambda: names() == running, seconds=60)
        except Failed as error:
            raise Failed(f"{error}: {names()}, running: {running}") from None
        claims = {one["metadata"]["uid"] for one in site.trial.get("pvc", "-A")["items"]}
        for volume in site.trial.get("pv")["items"]:
            check(volume["spec"]["claimRef"]["uid"] in claims, f"{volume['metadata']['name']} has no claim")
        # Namespaces stay with their homes; each belongs to somebody who has had a workspace.
        owners = {f"cubicle-u-{number:0>12}" for number in range(1, site.made + 1)} | {
            f"cubicle-{one['spec']['owner']['id']}" for one in known.values()
        }
        # One that was claimed is named after nobody, and its home says whose it is; users of warm workspaces are `u-warm…`.
        homes = site.trial.get("pvc", "-A", "-l", "cubicle.dev/owner")["items"]
        homes = {one["metadata"]["namespace"]: one["metadata"]["labels"]["cubicle.dev/owner"] for one in homes}
        for one in site.trial.get("namespaces", "-l", "cubicle.dev/tenant")["items"]:
            where, notes = one["metadata"]["name"], one["metadata"].get("annotations", {})
            theirs = f"cubicle-{homes.get(where)}"
            known_user = theirs in owners or theirs.startswith("cubicle-u-warm")
            check(where in owners or (known_user and UNCLAIMED not in notes), f"{where} is nobody's: {theirs}, {notes}")
        site.delete(*made)
        bench.enforcer_follows()
        left = site.trial.get("pods", "-A", "-l", "cubicle.dev/workspace")["items"]
        left = {one["metadata"]["name"] for one in left} - twins
        check(left == set(running) - set(made), f"pods are left: {left}")
        for name, state in over.items():
            where = namespace_of(name)
            # Nothing stands twice, and nothing of a workspace stands without it.
            for kind, most in (("serviceaccounts", 2), ("networkpolicies", 2), ("resourcequotas", 1), ("limitranges", 1)):
                there = site.trial.get(kind, "-n", where)["items"]
                check(len(there) <= most, f"{where} has the {kind} {[one['metadata']['name'] for one in there]}")
                check(not any(one["metadata"].get("ownerReferences") for one in there), f"{kind} of {where} have owners")
            homes = site.trial.get("pvc", "-n", where)["items"] if state == "running" else ["not made by every launch"]
            check(homes, f"the home of {name} is gone")


def outcome(status: dict) -> tuple:
    """What must not change once a launch has ended."""
    return status.get("state"), status.get("launch"), status.get("podUid"), status.get("openedAt")


def steady(site: Site, made: list[str], ends: dict[str, tuple]) -> None:
    """An end is one: nothing goes back to an earlier state, and nothing is launched once more by itself."""
    for one in site.trial.get("workspaces")["items"]:
        name, status = one["metadata"]["name"], one.get("status", {})
        if name not in made:
            continue
        now = outcome(status)
        check(ends.get(name, now) == now, f"{name} was {ends.get(name)} and is {now}: {status}")
        if now[0] in ENDED:
            ends[name] = now


def truth(site: Site, name: str, status: dict) -> None:
    """The status says what is."""
    where = namespace_of(name)
    check(status["state"] in ENDED, str(status))

    def pods() -> list[dict]:
        return site.trial.get("pods", "-n", where)["items"]

    if status["state"] == "running":
        # A twin comes and goes.
        found = [one for one in pods() if one["metadata"]["name"] != f"{name}-twin"]
        check([one["metadata"]["uid"] for one in found] == [status["podUid"]], f"{name}: its pods are {found}")
        route = status["route"]
        check(found[0]["status"]["podIP"] == route["address"], f"{name}: the route leads elsewhere")
    else:
        check("route" not in status, f"{name} is {status['state']} and has a route")
        wait_for(f"an end of {name}'s pod", lambda: not pods(), seconds=60)
