"""Traces of launches on Kubernetes, as a collector outside of the pods gets them.

The collector is the one of tests/traces, in the network namespace of the first node.
"""

from __future__ import annotations

import json
import subprocess
import time

from cases import Bench
from environments import environment
from installation import CHART, RELEASE, SYSTEM, TREE, workspace
from product import Suite, check, wait_for

FOLDER = TREE / "tests/traces"
ADDRESS, PORT = "192.168.61.1", 4318
PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STEPS = {"request", "plan", "build", "prove", "open"}
USER = "carol-of-the-test"


class Collector:
    """The receiver; a context manager."""

    def __init__(self, bench: Bench) -> None:
        self.trial, self.folder = bench.trial, bench.site.folder

    def __enter__(self) -> Collector:
        python = environment(FOLDER / "requirements.txt") / "python"
        self.raw, self.out = self.folder / "spans.bin", self.folder / "spans.jsonl"
        self.raw.touch()
        command = [TREE / "tests/cluster/cluster", "exec", self.trial.name, "--node", "node-1", "--", str(python)]
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [*command, FOLDER / "collector.py", f"{ADDRESS}:{PORT}", self.raw], stdin=subprocess.DEVNULL, stdout=out
            )
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()

    def spans(self) -> list[dict]:
        return [json.loads(line) for line in self.out.read_text().splitlines() if line.endswith("}")]

    def launches(self, name: str) -> list[dict]:
        found = [span for span in self.spans() if span["name"] == "launch"]
        return [span for span in found if span["attributes"]["cubicle.workspace.id"] == name]

    def trace(self, name: str, count: int = 1) -> list[dict]:
        """The trace of the newest of so many launches of a workspace, with what the hub told of it."""
        launch = wait_for(f"launch {count} of {name}", lambda: self.launches(name)[count - 1 :], 30)[0]

        def whole() -> list[dict] | None:
            trace = [span for span in self.spans() if span["trace"] == launch["trace"]]
            return trace if launch["parent"] in {"", PLACE.split("-")[2], *(span["id"] for span in trace)} else None

        return wait_for(f"the whole trace of {name}", whole, 30)


def paths(trace: list[dict]) -> set[str]:
    known = {span["id"]: span for span in trace}

    def path(span: dict) -> str:
        parent = known.get(span["parent"])
        return (path(parent) + " > " if parent else "") + span["name"]

    return {path(span) for span in trace}


def in_hub(bench: Bench, *words: str):
    command = ["exec", "-n", SYSTEM, "deployment/cubicle-hub", "--", "cubicle", *words, "--format", "json"]
    return json.loads(bench.trial.kubectl(*command))


def cases(suite: Suite, bench: Bench) -> None:
    """Hubs and controller tell one trace of each launch; what others write into an annotation is no danger."""
    site, name = bench.site, f"{bench.trial.name}: "
    with Collector(bench) as collector:
        with suite.case(f"{name}a site names a collector in the chart's values"):
            values = site.folder / "tracing.json"
            variables = {"OTEL_BSP_SCHEDULE_DELAY": "200"}
            values.write_text(json.dumps({"tracing": {"endpoint": f"http://{ADDRESS}:{PORT}", "variables": variables}}))
            words = ["upgrade", RELEASE, str(CHART), "--values", str(site.values), "--values", str(values)]
            site.helm(*words, "--wait", "--timeout=120s")
            site.ready()

        with suite.case(f"{name}a launch at the hub is one trace: hub, launch, steps, proof"):
            in_hub(bench, "user", "add", USER)
            launched = in_hub(bench, "launch", "desk", "--user", USER)["id"]
            check(site.ended(launched)["state"] == "running", str(site.status(launched)))
            trace = collector.trace(launched)
            root = "POST /api/v1/workspaces > launch"
            proof = f"{root} > prove > proof"
            wanted = {root, *(f"{root} > {step}" for step in STEPS), proof, f"{proof} > tenant > network.internet"}
            wanted |= {f"{proof} > control before", f"{proof} > control after"}
            found = paths(trace)
            check(wanted <= found, f"missing: {sorted(wanted - found)} in {sorted(found)}")
            services = {span["service"] for span in trace}
            check(services == {"cubicle-hub", "cubicle-controller"}, str(services))
            launch = collector.launches(launched)[0]
            told = launch["attributes"]
            check(told["cubicle.outcome"] == "open" and told["cubicle.engine"] == "kubernetes", str(told))
            for span in trace:
                check(span["start"] <= span["end"] and span["status"] == "unset", str(span))

        with suite.case(f"{name}a later launch of the same workspace is another trace"):
            def begin(launch: int, **annotations: str) -> list[dict]:
                """Stops it, and writes what a hub writes to begin a launch."""
                for spec in ({"run": False}, {"run": True, "launch": launch}):
                    patch = json.dumps({"metadata": {"annotations": annotations}, "spec": spec})
                    bench.trial.kubectl("patch", "workspace", launched, "--type=merge", "-p", patch)
                    if not spec["run"]:
                        wait_for("its end", lambda: site.status(launched)["state"] == "stopped", 60)
                collector.trace(launched, launch + 1)
                return collector.launches(launched)[launch]

            again = begin(1, **{"cubicle.dev/trace": f"1/{PLACE}"})
            check(again["trace"] == PLACE.split("-")[1] and again["parent"] == PLACE.split("-")[2], str(again))
            # By somebody else: the annotation is an earlier launch's.
            third = begin(2)
            check(third["trace"] not in (again["trace"], launch["trace"]) and not third["parent"], str(third))
            site.delete(launched)

        with suite.case(f"{name}garbage in the annotation is as good as none, and a place is taken"):
            for text in (PLACE, f"0/{PLACE}", "0/garbage", f"7/{PLACE}", "0/" + "f" * 100_000):
                made = site.name()
                manifest = workspace(made, f"u-{made[2:]}")
                manifest["metadata"]["annotations"] = {"cubicle.dev/trace": text}
                bench.trial.kubectl("create", "-f", "-", text=json.dumps(manifest))
                check(site.ended(made)["state"] == "running", str(site.status(made)))
                collector.trace(made)
                launch = collector.launches(made)[0]
                taken = text == f"0/{PLACE}"
                check(launch["trace"] == PLACE.split("-")[1] if taken else not launch["parent"], f"{text[:60]}: {launch}")
                site.delete(made)

        with suite.case(f"{name}no user's name is told, and a collector that is gone keeps no launch"):
            raw = collector.raw.read_bytes()
            check(USER.encode() not in raw and b"somebody" not in raw, "a name is told")
            check(launched.encode() in raw and b"network.internet" in raw, "the test finds nothing")
            collector.process.kill()
            collector.process.wait()
            began = time.monotonic()
            made, status = site.launch()
            check(status["state"] == "running" and time.monotonic() - began < 30, str(status))
            site.delete(made)

    with suite.case(f"{name}without a collector the chart is as it was"):
        site.helm("upgrade", RELEASE, str(CHART), "--values", str(site.values), "--wait", "--timeout=120s")
        site.ready()

