#!/usr/bin/env python3
"""Speaks only Hatchery's contract: options, launch, status until Running, proxy, terminate.

    client.py PORTAL TOKEN OTHER_TOKEN ELSEWHERE_TOKEN

TOKEN is whose workspace it is, OTHER_TOKEN is another person's, ELSEWHERE_TOKEN the first person's for
something that is not a workspace.
"""

import base64
import json
import os
import socket
import sys
import time

import requests

PORTAL, TOKEN, OTHER, ELSEWHERE = sys.argv[1:]
BASE = PORTAL + "/lw-workspace/"
# How long a workspace may take, in seconds: what Gen3's own launch test allows.
PATIENCE = 600
wrong = []


def check(truth, what, seen=""):
    print("ok" if truth else "NOT OK", what + ("" if truth else f": {seen!r}"))
    if not truth:
        wrong.append(what)


def ask(method, path, token=TOKEN, **more):
    headers = {"Authorization": f"bearer {token}"} if token else {}
    headers.update(more.pop("headers", {}))
    return requests.request(method, BASE + path, headers=headers, allow_redirects=False, timeout=60, **more)


def status():
    return ask("GET", "status").json()["status"]


def until(wanted):
    began = time.monotonic()
    while (state := status()) != wanted and time.monotonic() - began < PATIENCE:
        if state in ("Stopped", "Errored"):
            break
        time.sleep(0.2)
    return state, time.monotonic() - began


def subject(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sub"]


def websocket(path, headers):
    """The status of an answer to a request for a WebSocket."""
    host, port = PORTAL.removeprefix("http://").split(":")
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]
    lines += [f"{name}: {value}" for name, value in headers]
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(connection.recv(64).split()[1])


# === the plain way ===

options = ask("GET", "options").json()
check(len(options) == 1 and options[0]["name"] == "JupyterLab in the portal", "the portal's template is offered", options)
option = options[0]
expected = ["name", "cpu-limit", "memory-limit", "id", "gpu", "idle-time-limit"]
check(list(option) == expected, "an option has Hatchery's keys in its order", list(option))
check(status() == "Not Found", "there is no workspace yet")
launched = ask("POST", f"launch?id={option['id']}")
check((launched.status_code, launched.text) == (200, "Success"), "launch", launched.text)
state, seconds = until("Running")
check(state == "Running", "status until Running", ask("GET", "status").text)
print(f"   it took {seconds:.1f} s")
running = ask("GET", "status").json()
check(running["idleTimeLimit"] == 3600000 and running["lastActivityTime"] > 1.7e12, "idle time is told", running)
again = ask("POST", f"launch?id={option['id']}")
check(again.status_code == 500 and "already exists" in again.text, "one workspace per user", again.text)

page = ask("GET", "proxy/")
check(page.status_code in (200, 302), "proxy/ answers", page.status_code)
place = page.headers.get("Location", "")
check(not place or place.startswith("/lw-workspace/proxy/"), "a redirect stays below the path", place)
lab = ask("GET", "proxy/lab")
check(lab.status_code == 200 and "/lw-workspace/proxy/" in lab.text, "JupyterLab knows its path", lab.status_code)
check("jupyter" in lab.text.lower(), "it is JupyterLab", lab.text[:200])
check(TOKEN not in lab.text, "the page holds no token of the portal")

session = requests.Session()
session.headers["Authorization"] = f"bearer {TOKEN}"
session.get(BASE + "proxy/lab", timeout=60)
xsrf = session.cookies.get("_xsrf", path="/lw-workspace/proxy/")
check(bool(xsrf), "Jupyter's own cookie comes through, below the path", list(session.cookies))
kernel = session.post(BASE + "proxy/api/kernels", json={}, headers={"X-XSRFToken": xsrf or ""}, timeout=60)
check(kernel.status_code == 201, "a kernel starts", kernel.text[:200])
channels = f"/lw-workspace/proxy/api/kernels/{kernel.json().get('id')}/channels"
check(websocket(channels, [("Authorization", f"bearer {TOKEN}")]) == 101, "its WebSocket opens with the token")

# What the notebook itself would see of the portal: run code that looks, through the contents it writes.
everything = {"access_token": TOKEN, "fence": "a-session-of-the-portal"}
seen = session.get(BASE + "proxy/api/status", cookies=everything, headers={"remote_user": subject(TOKEN)}, timeout=60)
check(seen.status_code == 200, "a front's REMOTE_USER that agrees is taken", seen.text)

# === somebody else ===

owner, other = subject(TOKEN), subject(OTHER)
check(ask("GET", "proxy/lab", OTHER).status_code == 404, "another person has another door")
check(ask("GET", "status", OTHER).json()["status"] == "Not Found", "and another state")
for what, token, headers in [
    ("nobody with a name", "", {"REMOTE_USER": owner}),
    ("nobody with a name in another spelling", "", {"Remote-User": owner}),
    ("another person with the owner's name", OTHER, {"REMOTE_USER": owner}),
    ("another person with the owner's name in another spelling", OTHER, {"Remote-User": owner}),
    ("the owner's token for elsewhere", ELSEWHERE, {}),
    ("the owner's token for elsewhere, with the name", ELSEWHERE, {"REMOTE_USER": owner}),
    ("a token cut off", TOKEN[:-20], {}),
    ("a token without signature", TOKEN.rsplit(".", 1)[0] + ".", {}),
]:
    for method, path in [("GET", "status"), ("GET", "proxy/lab"), ("POST", "terminate"), ("GET", "options")]:
        answer = ask(method, path, token, headers=headers)
        check(answer.status_code == 401, f"{what}: {method} {path} is 401", (answer.status_code, answer.text[:200]))
    named = [(name, value) for name, value in headers.items()]
    given = [("Authorization", f"bearer {token}")] if token else []
    check(websocket(channels, given + named) == 401, f"{what}: the kernel's WebSocket is 401")
for path in ["..%2fterminate", "%2e%2e/terminate", "a/..%5c..%5cterminate", "%252e%252e/terminate"]:
    prepared = requests.Request("POST", BASE, headers={"Authorization": f"bearer {TOKEN}"}).prepare()
    prepared.url = BASE + "proxy/" + path
    answer = requests.Session().send(prepared, timeout=30)
    check(answer.status_code == 400, f"proxy/{path} is 400", answer.status_code)
# The control interface on the hub's own origin believes no header either.
hub = PORTAL.replace("127.0.0.1", "localhost")
for headers in [{"REMOTE_USER": owner}, {"REMOTE_USER": "admin"}, {"Remote-User": "admin"}]:
    answer = requests.get(hub + "/api/v1/users/me", headers=headers, timeout=30)
    check(answer.status_code == 401, f"{headers} at the control interface is 401", answer.text)
check(requests.get(PORTAL + "/api/v1/users/me", timeout=30).status_code == 404, "the portal's origin has no control interface")
check(status() == "Running", "all of this left the workspace alone")

# === the end ===

ended = ask("POST", "terminate")
check((ended.status_code, ended.text) == (200, "Terminated workspace"), "terminate", ended.text)
state, seconds = until("Not Found")
check(state == "Not Found", "status until Not Found", state)
check(ask("GET", "proxy/").status_code == 404, "the door is closed")

print("hatchery: ok" if not wrong else f"hatchery: {len(wrong)} findings")
sys.exit(bool(wrong))
