"""The same changes, made to a workspace that runs: they are seen, told, and followed by what its template wants.

Changes of objects are seen at once; what has no object is seen at the next proof, which is asked for here.
"""

from __future__ import annotations

import json
import time
from itertools import cycle

from cases import Bench, Case
from installation import namespace_of, template
from killers import OTHERS, allows_all
from product import Suite, check, wait_for

ACTIONS = ("close", "warn", "stop")
ALLOW_ALL = Case("an extra allow-all policy", OTHERS, "cubicle/requester", meddle=allows_all)
# "At once": an event, a twin that starts, and its proof, on a machine that has better to do.
SOON = 60


def _condition(status: dict, kind: str) -> dict:
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def _verify(bench: Bench, name: str) -> None:
    """What "Prove again now" does."""
    asked = bench.site.get(name)["spec"].get("verify", 0) + 1
    bench.trial.kubectl("patch", "workspace", name, "--type=merge", "-p", json.dumps({"spec": {"verify": asked}}))


def _seen(bench: Bench, name: str) -> dict:
    """Waits until the walls are known not to hold; the status then."""

    def fallen() -> dict | None:
        status = bench.site.status(name)
        return status if _condition(status, "Proven").get("status") == "False" else None

    return wait_for(f"a later proof of {name} to see it", fallen, seconds=SOON)


def _told(bench: Bench, name: str, breached: bool) -> None:
    """An event on the workspace, and the columns of `kubectl get workspaces`."""

    def events() -> list[str]:
        found = bench.trial.get("events", "-n", "default", "--field-selector", f"involvedObject.name={name},type=Warning")
        return [one.get("reason", "") for one in found["items"]]

    wait_for(f"an event of {name}", lambda: {"WallsChanged", "GuaranteeNotHeld"} & set(events()), seconds=20)
    shown = bench.trial.kubectl("get", "workspaces", name)
    head, row = (line for line in shown.splitlines()[:2])
    at = head.index("BREACHED")
    check((row[at:].split()[0] != "0") == breached, shown)


def _follows(bench: Bench, name: str, action: str, breached: bool) -> str:
    """What becomes of it; in short."""
    if breached and action == "stop":
        status = wait_for(f"{name} to be stopped", lambda: _ended(bench, name), seconds=SOON)
        check("a wall is down" in status["reason"], str(status))
        return "stopped"
    status = bench.site.status(name)
    check(status["state"] == "running" and status.get("warnings"), str(status))
    if breached and action == "close":
        check("route" not in status, str(status))
        check(_condition(status, "Open").get("reason") == "ClosedByBreach", str(status))
        return "route closed"
    check("route" in status, str(status))
    return "warned"


def _ended(bench: Bench, name: str) -> dict | None:
    status = bench.site.status(name)
    return status if status.get("state") == "stopped" else None


def changed(bench: Bench, case: Case, action: str) -> str:
    """One change to a workspace of its own that runs."""
    name, status = bench.site.launch(f"on-{action}")
    check(status["state"] == "running", str(status))
    where = namespace_of(name)
    began = time.monotonic()
    with case.in_place(bench):
        if case.meddle is not None:
            for words, thing in case.meddle(bench, where):
                bench.trial.kubectl(*words, text=json.dumps(thing) if thing else "")
        elif "Namespace" in case.patches:
            bench.trial.kubectl("annotate", "namespace", where, "seen=true")
        else:
            _verify(bench, name)
        status = _seen(bench, name)
        seconds = time.monotonic() - began
        breached = bench.site.breached(name)
        said = _condition(status, "Proven")["message"]
        check(case.gate in breached or case.gate in said, f"expected {case.gate}: {said}; breached: {breached}")
        _told(bench, name, bool(breached))
        follows = _follows(bench, name, action, bool(breached))
    bench.site.delete(name)
    return f"{case.gate} after {seconds:.0f} s, {follows}"


def back(bench: Bench) -> str:
    """A route that was closed comes back when the wall holds again."""
    name, _ = bench.site.launch("on-close")
    where = namespace_of(name)
    for words, thing in allows_all(bench, where):
        bench.trial.kubectl(*words, text=json.dumps(thing) if thing else "")
    status = _seen(bench, name)
    check("route" not in status, str(status))
    bench.trial.kubectl("delete", "networkpolicy", "helpful", "-n", where)
    wait_for("the route to come back", lambda: bench.site.status(name).get("route"), seconds=SOON)
    check(_condition(bench.site.status(name), "Proven").get("status") == "True", str(bench.site.status(name)))
    bench.site.delete(name)
    return "closed, and open again"


def cases(suite: Suite, bench: Bench, cases: list[Case]) -> None:
    for action in ACTIONS:
        bench.trial.apply(template(f"on-{action}", onBreach=action))
    if not any(case.name == ALLOW_ALL.name for case in cases):
        cases = [*cases, ALLOW_ALL]
    was = " and was warm" if bench.site.ahead else ""
    with bench.unbound():
        for case, action in zip(cases, cycle(ACTIONS)):
            with suite.case(f"{bench.trial.name}: {case.name}, while it runs{was}, onBreach {action}"):
                print(f"       {changed(bench, case, action)}", flush=True)
        with suite.case(f"{bench.trial.name}: what was closed{was} is open again when the wall holds"):
            print(f"       {back(bench)}", flush=True)
