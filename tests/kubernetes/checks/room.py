"""Who waits because no node has room is told so, with their place in the line; nobody waits for what does not come."""

from __future__ import annotations

import concurrent.futures
import json
import time

from layout import NODES
from product import Suite, check, wait_for
from cases import Bench
from installation import HOST, SYSTEM, template
from traces import in_hub

# What the page of a launch follows, until it has said something.
FOLLOW = """
import http.client, json, ssl, sys, time
given = json.load(sys.stdin)
hub = http.client.HTTPSConnection(*given["address"], timeout=60, context=ssl._create_unverified_context())
headers = {"Host": given["host"], "Authorization": f"Bearer {given['token']}"}
hub.request("GET", f"/api/v1/workspaces/{given['workspace']}/events", headers=headers)
answer, said = hub.getresponse(), []
while line := answer.readline().decode():
    if line.startswith("data:"):
        said.append(json.loads(line[5:])["message"])
        if given["until"] in said[-1]:
            break
print(json.dumps(said))
"""


class Person:
    """An account for programs, with a token and one launch."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        in_hub(bench, "user", "add", name, "--service")
        self.token = in_hub(bench, "token", "add", name, "--name", "watch")["secret"]
        self.workspace = in_hub(bench, "launch", "desk", "--user", name)["id"]

    def waits(self) -> None:
        def told() -> bool:
            conditions = self.bench.site.status(self.workspace).get("conditions", [])
            return any(one["type"] == "Scheduled" and one["status"] == "False" for one in conditions)

        wait_for(f"{self.workspace} to wait for a node", told, 60)

    def hears(self, until: str) -> list[str]:
        words = ["endpointslice", "-n", SYSTEM, "-l", "kubernetes.io/service-name=cubicle-hub"]
        found = self.bench.trial.get(*words)["items"][0]
        address = [found["endpoints"][0]["addresses"][0], found["ports"][0]["port"]]
        given = {"address": address, "host": HOST, "token": self.token, "workspace": self.workspace, "until": until}
        return json.loads(self.bench.trial.exec("timeout", "60", "python3", "-c", FOLLOW, text=json.dumps(given)))


def cases(suite: Suite, bench: Bench) -> None:
    site, name = bench.site, f"{bench.trial.name}: "
    with suite.case(f"{name}who waits for a node is told their place, and that one has room"):
        bench.trial.kubectl("cordon", *NODES)
        try:
            first = Person(bench, "first")
            first.waits()
            second = Person(bench, "second")
            second.waits()
            said = second.hears("number 2 in line")
            check("no node of the cluster has room yet" in said[-1], str(said))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                followed = pool.submit(second.hears, "a node has room")
                time.sleep(2)
                site.delete(first.workspace)
                time.sleep(2)
                bench.trial.kubectl("uncordon", *NODES)
                said = followed.result()
            told = [line.partition(":")[0].partition(";")[0] for line in said if "line:" in line or "room;" in line]
            check(told == ["number 2 in line", "number 1 in line", "a node has room"], str(said))
        finally:
            bench.trial.kubectl("uncordon", *NODES)
        check(site.ended(second.workspace)["state"] == "running", str(site.status(second.workspace)))
        conditions = [one["type"] for one in site.status(second.workspace)["conditions"]]
        check("Scheduled" not in conditions, str(conditions))

    with suite.case(f"{name}an image that is not on its node is not waited for"):
        ghost = f"nowhere.example/ghost@sha256:{'0' * 64}"
        bench.trial.apply(template("ghost", image=ghost, command=["/bin/true"]))
        launched = site.create("ghost")
        status = site.ended(launched, seconds=60)
        check(status["state"] == "failed" and "ErrImageNeverPull" in status["reason"], str(status))
        site.never_opened(launched)
        site.delete(launched)
        bench.trial.kubectl("delete", "template", "ghost")
