"""Where somebody gets from a notebook: dialled by a process of the tenant's in the workspace's own pod."""

from __future__ import annotations

import json
from pathlib import Path

from cases import Bench
from crashes import controllers
from installation import SYSTEM, namespace_of
from layout import NODE_ADDRESS, OUTSIDE_ADDRESSES
from product import Suite, check
from trial import pod

KUBELET, ETCD, API, HUB = 10250, 2379, 6443, 8000
# Where programs in clusters commonly tell how they are. Nothing of ours does; a stand-in beside the controller does.
METRICS = (8080, 8443, 9090)
COMPONENT = "app.kubernetes.io/component={}"


def listens(pid: int) -> list[str]:
    """The local addresses at which anything listens in the network namespace of a process."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
    return [line[1] for line in lines if line[3] == "0A"]


def targets(bench: Bench, other: str) -> dict[str, list[str]]:
    """What must not be reached, by name."""
    trial, site = bench.trial, bench.site
    services = trial.get("services", "-A")["items"]
    by_name = {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one["spec"] for one in services}
    canary = by_name["cubicle-canary/canary"]
    node_port = canary["ports"][0]["nodePort"]
    canaries = [one["status"]["podIP"] for one in trial.get("pods", "-n", "cubicle-canary")["items"]]
    references = [one["status"]["podIP"] for one in trial.get("pods", "-n", "cubicle-reference")["items"]]
    hubs = [one["status"]["podIP"] for one in trial.get("pods", "-n", SYSTEM, "-l", COMPONENT.format("hub"))["items"]]
    nodes = list(NODE_ADDRESS.values())
    route = site.status(other)["route"]
    return {
        "API server by its service": [f"{by_name['default/kubernetes']['clusterIP']}:443"],
        "API server by its endpoint, a node's address": [f"{NODE_ADDRESS['node-1']}:{API}"],
        "kubelets": [f"{node}:{KUBELET}" for node in nodes],
        "etcd": [f"{NODE_ADDRESS['node-1']}:{ETCD}"],
        "node ports": [f"{node}:{node_port}" for node in nodes],
        "another tenant's notebook": [f"{route['address']}:{route['port']}"],
        "pods of another namespace, both nodes": [f"{one}:8888" for one in canaries],
        "a service of another namespace": [f"{canary['clusterIP']}:8888"],
        "hubs": [f"{one}:{HUB}" for one in hubs] + [f"{by_name['cubicle-system/cubicle-hub']['clusterIP']}:443"],
        "metrics ports beside the controller": [f"{trial.address(SYSTEM, 'stand-in')}:{port}" for port in METRICS],
        "references": [f"{one}:8887" for one in references],
        "name servers other than the cluster's": ["8.8.8.8:53", *(f"{one}:53" for one in canaries)],
        "special addresses": [f"{one}:80" for one in OUTSIDE_ADDRESSES if one not in ("8.8.8.8", "203.0.113.10")],
        "a private host": ["10.99.0.5:80"],
    }


def cases(suite: Suite, bench: Bench) -> None:
    """Everything is dialled by the tenant, and by a pod that every door is open for."""
    trial = bench.trial
    with suite.case(f"{trial.name}: from A's notebook nothing of the list is reached, and its control reaches all"):
        other, status = bench.site.launch()
        check(status["state"] == "running", str(status))
        where = namespace_of(bench.control)
        # Labelled like the controller, for whom notebooks and references open their doors.
        twin = pod(SYSTEM, "twin", "/bin/dial", "pause")
        twin["metadata"]["labels"] = {
            "app.kubernetes.io/name": "cubicle",
            "app.kubernetes.io/component": "controller",
        }
        trial.apply(twin, pod(SYSTEM, "stand-in", "/bin/dial", "listen", *map(str, METRICS)))
        trial.wait_ready(SYSTEM, "twin", "stand-in")
        leaders = trial.get("pods", "-n", SYSTEM, "-l", COMPONENT.format("controller"))["items"]
        leaders = [one["status"]["podIP"] for one in leaders if one["metadata"]["name"] != "twin"]
        shut = [f"{one}:{port}" for one in leaders for port in (HUB, *METRICS)]
        wanted = targets(bench, other)
        everything = [one for some in wanted.values() for one in some]
        with bench.unbound():
            found = trial.dial(where, bench.control, *everything, *shut)
            udp = [one for one in wanted["name servers other than the cluster's"] if not one.startswith("8.")]
            found_udp = trial.dial(where, bench.control, *udp, udp=True)
        opened = {one: result for one, result in found.items() if result != "timeout"}
        check(not opened, f"A's notebook got: {opened}")
        check(set(found_udp.values()) == {"timeout"}, f"A's notebook got by UDP: {found_udp}")
        control = trial.dial(SYSTEM, "twin", *everything)
        closed = {one: result for one, result in control.items() if result != "open"}
        check(not closed, f"the control did not get: {closed}")
        check(set(trial.dial(SYSTEM, "twin", *udp, udp=True).values()) == {"open"}, "the control got nothing by UDP")
        # Of the controller itself there is no control, because it is served to nobody.
        check(shut and not [one for pid in controllers(trial.name) for one in listens(pid)], "the controller listens")
        print(f"       {len(everything)} addresses: {', '.join(wanted)}; and {len(shut)} of the controller")
        trial.kubectl("delete", "pod", "twin", "stand-in", "-n", SYSTEM, "--grace-period=0", "--force")
        bench.site.delete(other)

    with suite.case(f"{trial.name}: a notebook's process has no token, no service variable and no path of the node"):
        where, name = namespace_of(bench.control), bench.control
        script = (
            "p=$(pidof dial | tr ' ' '\\n' | tail -1); echo \"uid $(id -u)\"; "
            "tr '\\0' '\\n' </proc/$p/environ; echo ---; ls /var/run/secrets /run/secrets 2>&1; echo ---; "
            "cat /proc/$p/mountinfo"
        )
        with bench.unbound():
            said = trial.kubectl("exec", "-n", where, name, "--", "/bin/sh", "-c", script)
            injected = trial.kubectl("exec", "-n", where, name, "--", "/bin/sh", "-c", "env")
        environment, secrets, mounts = said.split("---")
        check("uid 1000" in environment and "CUBICLE_TOKEN=" in environment, environment)
        check("KUBERNETES" not in environment and "_SERVICE_" not in environment, environment)
        check("KUBERNETES_SERVICE_HOST" in injected, "the control: the kubelet injects nothing")
        check("No such file" in secrets and "token" not in secrets, secrets)
        sources = {line.split()[3] for line in mounts.splitlines() if line.strip()}
        check(not [one for one in sources if one.startswith(("/etc/kubernetes", "/var/lib/kubelet/pki"))], str(sources))
        spec = trial.get("pod", name, "-n", where)["spec"]
        check("hostPath" not in json.dumps(spec) and "serviceAccountToken" not in json.dumps(spec), "the pod's volumes")
