"""What the cluster's benches run inside the cluster's network namespace: `kube_client.py COMMAND`, one JSON
document in, one out. A connection that stays open, because starting kubectl costs more than what is measured."""

import base64
import http.client
import json
import os
import socket
import ssl
import sys
import tempfile
import threading
import time
import urllib.parse


class Server:
    """One connection to the API server, as the kubeconfig's administrator."""

    def __init__(self) -> None:
        with open(os.environ["KUBECONFIG"]) as file:
            config = json.load(file)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.address = urllib.parse.urlsplit(cluster["server"])
        self.context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:
            for part in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[part]) + b"\n")
            file.flush()
            self.context.load_cert_chain(file.name)
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.address.hostname, self.address.port, context=self.context, timeout=300)

    def ask(self, method: str, path: str, body: dict | None = None, accept: tuple[int, ...] = (200, 201, 202),
            kind: str = "application/json") -> dict:
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text, {"Content-Type": kind})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status not in accept:
            sys.exit(f"{method} {path}: {answer.status} {content[:500]!r}")
        return json.loads(content)

    def text(self, path: str) -> str:
        self.connection.request("GET", path)
        return self.connection.getresponse().read().decode()

    def watch(self, path: str, seen) -> threading.Thread:
        """Tells `seen` of every event from now on, until it returns true."""
        connection = self.connect()
        connection.request("GET", path)
        answer = connection.getresponse()

        def follow() -> None:
            for line in answer:
                if seen(json.loads(line)["object"], time.monotonic()):
                    break
            connection.close()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        return thread


WORKSPACES = "/apis/cubicle.dev/v1alpha1/workspaces"


def workspace(server: Server, given: dict) -> dict:
    """Creates one and waits for its end; milliseconds from the request on, and the steps as the controller told them."""
    marks: dict[str, float] = {}
    last: dict = {}

    def seen(one: dict, now: float) -> bool:
        status = one.get("status", {})
        state = status.get("state")
        marks.setdefault(str(state), now)
        last.update(status)
        return state in ("running", "refused", "failed", "stopped")

    name = given["object"]["metadata"]["name"]
    watching = server.watch(f"{WORKSPACES}?watch=1&fieldSelector=metadata.name%3D{name}", seen)
    began = time.monotonic()
    server.ask("POST", WORKSPACES, given["object"])
    watching.join(180)
    return {
        "state": last.get("state"),
        "reason": last.get("reason"),
        "marks": {state: (at - began) * 1000 for state, at in marks.items()},
        "steps": last.get("steps", []),
    }


def pod(server: Server, given: dict) -> dict:
    """Creates one; milliseconds until it is ready, until its port answers, and with the token of a notebook until
    that has executed a first cell. One with a scheduling gate is
    there before, and the time begins when the gate is taken away."""
    thing = given["object"]
    where = f"/api/v1/namespaces/{thing['metadata']['namespace']}/pods"
    address: list[str] = []
    ready: list[float] = []

    def seen(one: dict, now: float) -> bool:
        status = one.get("status", {})
        if status.get("podIP") and not address:
            address.append(status["podIP"])
        if any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", [])):
            ready.append(now)
        return bool(ready)

    server.watch(f"{where}?watch=1&fieldSelector=metadata.name%3D{thing['metadata']['name']}", seen)
    began = time.monotonic()
    server.ask("POST", where, thing)
    if thing["spec"].get("schedulingGates"):
        time.sleep(2)
        began = time.monotonic()
        path = f"{where}/{thing['metadata']['name']}"
        server.ask("PATCH", path, {"spec": {"schedulingGates": []}}, kind="application/merge-patch+json")
    while time.monotonic() < began + 180:
        if address:
            try:
                with socket.create_connection((address[0], given["port"]), timeout=1) as stream:
                    stream.sendall(b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    if stream.recv(9):
                        answered = time.monotonic()
                        break
            except OSError:
                pass
        time.sleep(0.01)
    else:
        sys.exit("the bare pod did not answer")
    executed = None
    if "token" in given:
        sys.path[:0] = [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "../tests/harness")]
        import first_cell

        began_cell = time.monotonic()
        first_cell.execute_at_server(f"{address[0]}:{given['port']}", given["token"])
        executed = (answered - began + time.monotonic() - began_cell) * 1000
    while not ready and time.monotonic() < began + 180:
        time.sleep(0.01)
    return {"answered": (answered - began) * 1000, "executed": executed, "ready": (ready[0] - began) * 1000}


def many(server: Server, given: dict) -> dict:
    """Creates workspaces as fast as one connection does; seconds until each has its pod object."""
    wanted, found = len(given["objects"]), {}
    done = threading.Event()

    def seen(one: dict, now: float) -> bool:
        owner = one["metadata"].get("labels", {}).get("cubicle.dev/workspace")
        if owner in names:
            found.setdefault(owner, now)
        if len(found) == wanted:
            done.set()
        return done.is_set()

    names = {one["metadata"]["name"] for one in given["objects"]}
    before = requests(server)
    server.watch("/api/v1/pods?watch=1&labelSelector=cubicle.dev%2Fworkspace", seen)
    began = time.monotonic()
    for one in given["objects"]:
        server.ask("POST", WORKSPACES, one)
    asked = time.monotonic()
    done.wait(given["seconds"])
    ended = max(found.values(), default=asked)
    return {"pods": len(found), "asked": asked - began, "seconds": ended - began, "requests": requests(server) - before}


def requests(server: Server) -> float:
    """How many requests the API server has answered, whoever asked."""
    lines = server.text("/metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("apiserver_request_total{"))


def main() -> None:
    server = Server()
    json.dump(globals()[sys.argv[1]](server, json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
