"""What a user's browser does at a hub of a cluster, run inside the cluster's network namespace: one JSON document in,
one out. Milliseconds from the click on."""

import http.client
import json
import ssl
import sys
import time
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests/harness")]
import first_cell  # noqa: E402
from person import Person  # noqa: E402


class ClusterPerson(Person):
    """One browser, which finds every name at one hub's address."""

    def __init__(self, url: str, address: tuple[str, int]):
        super().__init__(address[1])
        self.hub, self.address = url, address
        # The test's certificates are its own.
        self.context = ssl._create_unverified_context()

    def connect(self, port: int | None) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(*self.address, timeout=120, context=self.context)


def main() -> None:
    given = json.load(sys.stdin)
    person = ClusterPerson(given["hub"], tuple(given["address"])).enter(given["link"])
    began = time.monotonic()
    made = person.call("POST", "/workspaces", {"template": given["template"]})
    if made.status not in (201, 202):
        sys.exit(f"not launched: {made.status} {made.text}")
    workspace = made.json()["id"]
    person.wait_until_open(workspace)
    opened = time.monotonic()
    listed = person.follow(f"/workspaces/{workspace}/open?{urllib.parse.urlencode({'next': '/api/contents'})}")
    answered = time.monotonic()
    found = sorted(entry["name"] for entry in listed.json()["content"])
    address, port = person.address
    first_cell.execute_at_workspace(person, listed.url, f"wss://{address}:{port}", sslopt={"cert_reqs": ssl.CERT_NONE, "check_hostname": False})
    executed = time.monotonic()
    json.dump({"workspace": workspace, "opened": (opened - began) * 1000, "listed": (answered - began) * 1000,
               "executed": (executed - began) * 1000, "files": found}, sys.stdout)


if __name__ == "__main__":
    main()
