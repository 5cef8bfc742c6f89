"""Egress with an allow-list: through the proxy to what the template lists, and nowhere else."""

from __future__ import annotations

import json

from cases import Bench
from installation import namespace_of, template
from product import Suite, check, wait_for

EGRESS, PROXY, PORT = "cubicle-egress", "deployment/cubicle-egress", 3128
# What `OUTSIDE_NAMES` of the test cluster resolves: public, of a range that is not public, and internal.
LISTED, RESERVED, INTERNAL = "public.example", "internet.example", "internal.example"
PUBLIC_ADDRESS = "8.8.8.8"
PROMISED = ("egress.metadata", "egress.private-ranges", "egress.spellings", "egress.not-listed", "network.internet")
# The environment of the notebook's process, in a shell beside it.
AS_THE_NOTEBOOK = "p=$(pidof dial | tr ' ' '\\n' | tail -1); export $(tr '\\0' '\\n' </proc/$p/environ | grep -i proxy); "


class Notebook:
    """A shell in a workspace's pod, with the notebook's proxy settings."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.name, self.where = bench, name, namespace_of(name)

    def says(self, script: str) -> str:
        words = ["exec", "-n", self.where, self.name, "--", "/bin/sh", "-c", f"{AS_THE_NOTEBOOK}{script} 2>&1"]
        return self.bench.trial.kubectl(*words, accept=tuple(range(256)))

    def gets(self, host: str, proxy: str = "") -> str:
        """What a plain client says that knows nothing but `http_proxy`."""
        other = f"export http_proxy={proxy} HTTP_PROXY={proxy}; " if proxy else ""
        return self.says(f"{other}/bin/dial get http://{host}/")

    @property
    def proxy(self) -> str:
        return self.says('echo "$http_proxy"').strip()


def entries(bench: Bench) -> list[str]:
    found = bench.trial.get("configmaps", "-n", EGRESS, "-l", "app.kubernetes.io/component=egress-caller")
    return [one["metadata"]["name"] for one in found["items"]]


def listed(name: str, allow: list[str], mode: str = "allow-list") -> dict:
    return template(name, level="strict", egress={"mode": mode, "allow": allow})


def cases(suite: Suite, bench: Bench) -> None:
    trial, site = bench.trial, bench.site
    names: dict[str, str] = {}

    def launched(which: str) -> str:
        name, status = site.launch(which)
        bad = [one for one in site.report(name).get("guarantees", []) if one["verdict"] in ("breached", "unproven")]
        check(status["state"] == "running", f"{which}: {status.get('reason')}; {bad}")
        return name

    with suite.case(f"{trial.name}: workspaces with an allow-list, with an empty one and without any way out are proven"):
        trial.apply(
            listed("listed", [f"{LISTED}:80", f"{RESERVED}:80", f"{INTERNAL}:80"]),
            listed("empty", []),
            listed("none", [], mode="none"),
        )
        for which in ("listed", "empty", "none"):
            names[which] = launched(which)
            verdicts = {one["id"]: one["verdict"] for one in site.report(names[which])["guarantees"]}
            told = {one: verdicts.get(one) for one in PROMISED}
            check(set(told.values()) == {"held"}, f"{which}: {told}")
        check(sorted(entries(bench)) == sorted([names["listed"], names["empty"]]), f"the list has {entries(bench)}")
    if len(names) < 3:
        return
    a, empty, none = (Notebook(bench, names[which]) for which in ("listed", "empty", "none"))

    with suite.case(f"{trial.name}: through the proxy to what is listed and public, nowhere else, and never past it"):
        with bench.unbound():
            address = a.proxy.rsplit("@", 1)[1].rstrip("/")
            check("outside " in (said := a.gets(LISTED)), f"{LISTED}: {said}")
            for host in (RESERVED, INTERNAL, PUBLIC_ADDRESS, "unlisted.example", "169.254.169.254", "10.96.0.1:443"):
                check("403" in (said := a.gets(host)), f"{host}: {said}")
            check("403" in (said := empty.gets(LISTED)), f"an empty list: {said}")
            check("3128" not in none.proxy, f"without a way out: {none.proxy}")
            past = {f"{PUBLIC_ADDRESS}:80": "timeout", "10.96.0.10:53": "timeout"}
            for one in (a, empty, none):
                check(trial.dial(one.where, one.name, *past) == past, f"past the proxy: {one.name}")
            check(f"{LISTED} none" in (said := a.says(f"/bin/dial resolve {LISTED}")), f"a name server answers: {said}")
            # Nobody else gets as far as the proxy; the workspace with a list does.
            reached = {one.name: trial.dial(one.where, one.name, address)[address] for one in (a, none)}
            walled = trial.dial(namespace_of(bench.control), bench.control, address)[address]
        check(reached == {a.name: "open", none.name: "timeout"} and walled == "timeout", f"{reached}, walled: {walled}")

    with suite.case(f"{trial.name}: another one's credential, a wrong one and none are refused by the proxy"):
        with bench.unbound():
            mine, theirs = a.proxy, empty.proxy
            check(mine.startswith("http://w-") and mine != theirs, f"{mine} {theirs}")
            bare = "http://" + mine.rsplit("@", 1)[1]
            for proxy in (mine, bare, bare.replace("//", f"//{empty.name}:wrong@")):
                check("407" in (said := empty.gets(LISTED, proxy)), f"with {proxy.split('@')[0][:20]}: {said}")
            check("407" in (said := a.gets(LISTED, theirs)), f"the other way round: {said}")
            check("outside" in a.gets(LISTED, mine), "the control: its own credential")
        log = trial.kubectl("logs", "-n", EGRESS, PROXY, "-c", "proxy", "--all-pods=true")
        lines = [json.loads(line[line.index("{") :]) for line in log.splitlines() if "{" in line]
        told = {(one.get("workspace"), one["verdict"], one.get("rule")) for one in lines if "verdict" in one}
        for line in ((a.name, "allowed", None), (empty.name, "refused", "not_listed"), (None, "refused", "stranger")):
            check(line in told, f"the log has no {line}: {sorted(map(str, told))}")

    with suite.case(f"{trial.name}: proxies that are killed come back knowing everybody, and the list follows the workspaces"):
        trial.kubectl("delete", "pods", "-n", EGRESS, "--all", "--wait=true")
        trial.kubectl("rollout", "status", "-n", EGRESS, PROXY, "--timeout=90s")
        with bench.unbound():
            wait_for("the way out to be back", lambda: "outside" in a.gets(LISTED), seconds=30)
        trial.kubectl("patch", "workspace", empty.name, "--type=merge", "-p", json.dumps({"spec": {"run": False}}))
        wait_for("its entry to go", lambda: entries(bench) == [a.name], seconds=30)

    with suite.case(f"{trial.name}: a later proof is made through the proxy too, and the notebook keeps its way out"):
        before = site.status(a.name)["provenAt"]
        trial.kubectl("patch", "workspace", a.name, "--type=merge", "-p", json.dumps({"spec": {"verify": 1}}))
        wait_for("the later proof", lambda: site.status(a.name)["provenAt"] != before, seconds=90)
        verdicts = {one["id"]: one["verdict"] for one in site.report(a.name)["guarantees"]}
        check({verdicts[one] for one in PROMISED} == {"held"}, str({one: verdicts[one] for one in PROMISED}))
        with bench.unbound():
            check("outside" in (said := a.gets(LISTED)), said)

    with suite.case(f"{trial.name}: a proxy that refuses nothing is found before any user code runs; so is none at all"):
        careless = {
            "name": "proxy",
            "image": site.images.probe,
            "command": ["/cubicle-probe"],
            "args": ["canary", f"proxy:{PORT}"],
        }
        wanted = {"spec": {"template": {"spec": {"containers": [careless]}}}}
        try:
            trial.kubectl("patch", "-n", EGRESS, PROXY, "-p", json.dumps(wanted))
            trial.kubectl("rollout", "status", "-n", EGRESS, PROXY, "--timeout=90s")
            name = site.create("listed")
            bench.stays_shut(name, "egress.metadata")
            seen = site.breached(name)
            check(set(PROMISED[:4]) <= set(seen), f"breached were only {seen}")
            trial.kubectl("scale", "-n", EGRESS, PROXY, "--replicas=0")
            trial.kubectl("wait", "pods", "-n", EGRESS, "--all", "--for=delete", "--timeout=60s")
            name = site.create("listed")
            status = site.ended(name, seconds=200)
            site.never_opened(name)
            check("egress." in status["reason"], str(status))
        finally:
            trial.kubectl("rollout", "undo", "-n", EGRESS, PROXY)
            trial.kubectl("scale", "-n", EGRESS, PROXY, "--replicas=2")
            trial.kubectl("rollout", "status", "-n", EGRESS, PROXY, "--timeout=90s")
        launched("listed")
