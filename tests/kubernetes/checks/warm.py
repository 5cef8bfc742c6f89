"""Workspaces that wait for their users: built, walled and proven before anybody asks, and each given to one user once.

What a hub writes to claim one is written here by an administrator; tests/kubernetes-browser does it through a hub.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from cases import Bench
from installation import CHART, RELEASE, SYSTEM, TEMPLATE, Site, namespace_of, template
from killers import allows_all
from product import Suite, check, wait_for

CONTROLLER = f"system:serviceaccount:{SYSTEM}:cubicle-controller"
MARK = "cubicle.dev/unclaimed"
STEPS = ["request", "plan", "build", "prove", "open"]


class Pool:
    """The members of a site."""

    def __init__(self, site: Site) -> None:
        self.site, self.trial = site, site.trial
        self.users = 0

    def hold(self, count: int) -> None:
        """Has the site hold so many of the one template."""
        words = ["--set", f"settings.warm.members.{TEMPLATE}={count}"]
        self.site.helm("upgrade", RELEASE, str(CHART), "--reuse-values", *words, "--wait", "--timeout=120s")
        self.site.ready()

    def members(self) -> list[dict]:
        found = self.trial.get("workspaces", "-l", "cubicle.dev/pool=member")["items"]
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]

    def ready(self, count: int = 1, seconds: float = 90) -> list[dict]:
        """Waits until so many wait for somebody."""

        def waiting() -> list[dict] | None:
            found = [one for one in self.members() if one.get("status", {}).get("readyAt")]
            return found if len(found) == count else None

        return wait_for(f"{count} warm workspaces", waiting, seconds=seconds)

    def user(self) -> str:
        self.users += 1
        return f"u-warm{self.users:0>8}"

    def claimed(self, member: dict, owner: str) -> tuple[str, dict]:
        """Claims one and waits for what becomes of it."""
        name = self.site.claim(member, owner)
        status = self.site.ended(name)
        check(status["state"] == "running", f"{name} is {status['state']}: {status.get('reason')}")
        return name, status

    def homes(self, owner: str) -> list[tuple[str, str]]:
        """Namespace and name of every home of a user."""
        found = self.trial.get("pvc", "-A", "-l", f"cubicle.dev/owner={owner}")["items"]
        return [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found]

    def pod(self, status: dict, name: str) -> dict:
        return self.trial.get("pod", name, "-n", status["namespace"])

    def nobodys(self) -> list[str]:
        """Namespaces that are nobody's."""
        found = self.trial.get("namespaces", "-l", "app.kubernetes.io/managed-by=cubicle")["items"]
        names = [one["metadata"] for one in found if "deletionTimestamp" not in one["metadata"]]
        return [one["name"] for one in names if MARK in one.get("annotations", {})]


def _warm(status: dict) -> bool:
    """Whether a launch came from the pool, as its steps tell."""
    return any("with a home that was never anybody's" in one["message"] for one in status.get("steps", []))


def _is(pool: Pool, member: dict, owner: str) -> tuple[str, dict]:
    """A claim that gets what was ready."""
    before = pool.pod(member["status"], member["metadata"]["name"])["metadata"]
    name, status = pool.claimed(member, owner)
    check(_warm(status), f"it was launched like any other: {status['steps']}")
    after = pool.pod(status, name)["metadata"]
    check(after["uid"] == before["uid"] and after["labels"] == before["labels"], f"{before} became {after}")
    return name, status


def cases(suite: Suite, bench: Bench) -> None:
    """From nothing held to nothing left."""
    pool = Pool(bench.site)
    trial, site = bench.trial, bench.site
    first = f"{trial.name}: warm"

    with suite.case(f"{first}: one is built, proven and answers nobody"):
        pool.hold(1)
        (member,) = pool.ready()
        status, name = member["status"], member["metadata"]["name"]
        for field in ("route", "openedAt", "steps"):
            check(field not in status, f"{field} is set: {status}")
        summary = status["summary"]
        check(summary["held"] > 20 and summary["breached"] == summary["unproven"] == 0, str(summary))
        check(pool.nobodys() == [status["namespace"]], f"{pool.nobodys()} are nobody's, not {status['namespace']}")
        check(member["spec"]["owner"]["id"] in status["namespace"], str(member["spec"]))

    owner = pool.user()
    with suite.case(f"{first}: a new user gets the pod that was proven, with the five steps and the times of the evidence"):
        name, status = _is(pool, member, owner)
        check([one["step"] for one in status["steps"]] == STEPS, str(status["steps"]))
        print(f"       {status['steps'][-1]['elapsedMs']} ms in the controller")
        check(status["namespace"] not in pool.nobodys(), "its namespace is nobody's still")
        check(pool.homes(owner) == [(status["namespace"], f"home-{member['spec']['owner']['id']}")], str(pool.homes(owner)))
        report = site.report(name)
        check(report["workspace"] == name, str(report["workspace"]))
        late = [
            one["id"] for one in report["guarantees"] for seen in one["evidence"] if seen["at"] >= report["started_at"]
        ]
        check(not late, f"told as if tried at the claim: {late}")

    with suite.case(f"{first}: it is proven again like any other, and nothing has drifted"):
        trial.kubectl("patch", "workspace", name, "--type=merge", "-p", json.dumps({"spec": {"verify": 1}}))
        status = wait_for(
            "the later proof", lambda: (now := site.status(name)).get("verified") == 1 and now, seconds=60
        )
        (proven,) = (one for one in status["conditions"] if one["type"] == "Proven")
        check(proven["status"] == "True", str(proven))

    with suite.case(f"{first}: the same user's next workspace, and the same one started again, find the same home"):
        other, found = site.launch(owner=owner)
        check(found["state"] == "running" and found["namespace"] == status["namespace"], str(found))
        site.delete(other)
        for run in (False, True):
            launch = {"run": run} | ({"launch": 1} if run else {})
            trial.kubectl("patch", "workspace", name, "--type=merge", "-p", json.dumps({"spec": launch}))
            wanted = "running" if run else "stopped"
            wait_for(f"{name} to be {wanted}", lambda: site.status(name)["state"] == wanted, seconds=90)
        check(site.status(name)["namespace"] == status["namespace"], str(site.status(name)))
        check(len(pool.homes(owner)) == 1, f"several homes: {pool.homes(owner)}")

    with suite.case(f"{first}: a user who has a home gets it, in a pod that is launched like any other"):
        (member,) = pool.ready()
        other, found = pool.claimed(member, owner)
        check(not _warm(found), f"it came from the pool: {found['steps']}")
        check(found["namespace"] == status["namespace"], str(found))
        check(len(pool.homes(owner)) == 1, f"several homes: {pool.homes(owner)}")
        gone = member["status"]["namespace"]
        wait_for(f"{gone} to go", lambda: gone not in trial.kubectl("get", "namespaces", "-o", "name"), seconds=90)
        site.delete(other)

    with suite.case(f"{first}: nobody can claim what somebody has, or make it a member again"):
        for change in ({"owner": {"id": pool.user(), "name": "somebody"}}, {"member": True}):
            said = trial.said("patch", "workspace", name, "--type=merge", "-p", json.dumps({"spec": change}), accept=(1,))
            check("cannot" in said, said)

    with suite.case(f"{first}: the controller deletes what is nobody's, and nothing that is somebody's"):
        (member,) = pool.ready()
        nobodys, somebodys = member["status"]["namespace"], status["namespace"]
        words = ["--dry-run=server", f"--as={CONTROLLER}"]
        said = trial.said("delete", "namespace", somebodys, *words, accept=(1,))
        check("cubicle/namespace-delete" in said, said)
        trial.said("delete", "namespace", nobodys, *words, accept=(0,))
        said = trial.said("annotate", "namespace", somebodys, f"{MARK}=true", "--dry-run=server", accept=(1,))
        check("cubicle/unclaimed" in said, said)

    with suite.case(f"{first}: what was changed around one while it waited keeps it from everybody"):
        (member,) = pool.ready()
        where = member["status"]["namespace"]
        with bench.unbound():
            for words, thing in allows_all(bench, where):
                trial.said(*words, text=json.dumps(thing) if thing is not None else "", accept=(0,))
            other, found = pool.claimed(member, pool.user())
        check(not _warm(found) and found["namespace"] != where, f"it was opened: {found}")
        site.delete(other)

    with suite.case(f"{first}: a controller that is killed at the claim leaves one home, and it opens"):
        (member,) = pool.ready()
        owner = pool.user()
        other = site.claim(member, owner)
        pods = trial.kubectl("get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller", "-o", "name")
        trial.kubectl("delete", "-n", SYSTEM, *pods.split(), "--grace-period=0", "--force")
        found = site.ended(other)
        check(found["state"] == "running" and len(pool.homes(owner)) == 1, f"{found}; {pool.homes(owner)}")
        site.ready()
        site.delete(other)

    with suite.case(f"{first}: two at once for one user are two workspaces with one home"):
        pool.hold(2)
        members, owner = pool.ready(2), pool.user()
        with ThreadPoolExecutor() as threads:
            both = list(threads.map(lambda member: pool.claimed(member, owner), members))
        check(len(pool.homes(owner)) == 1, f"several homes: {pool.homes(owner)}")
        check(len({found["namespace"] for _, found in both}) == 1, str(both))
        site.delete(*(other for other, _ in both))

    with suite.case(f"{first}: those of an older template are retired, and whoever has one keeps it"):
        before = {one["metadata"]["name"] for one in pool.ready(2)}
        trial.apply(template(TEMPLATE, idle={"after": "3h"}))
        wait_for(
            "others to wait",
            lambda: len(now := pool.members()) == 2
            and all(one.get("status", {}).get("readyAt") and one["metadata"]["name"] not in before for one in now),
            seconds=120,
        )
        check(site.status(name)["state"] == "running", str(site.status(name)))

    with suite.case(f"{first}: a site that holds none any more lets all go, and nothing is left"):
        trial.apply(template(TEMPLATE))
        pool.hold(0)
        wait_for("every member to go", lambda: not pool.members() and not pool.nobodys(), seconds=120)
        site.delete(name)
        began = time.monotonic()
        bench.opens()
        print(f"       the next one opens after {time.monotonic() - began:.1f} s, the long way")
