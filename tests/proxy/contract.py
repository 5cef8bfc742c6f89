#!/usr/bin/env python3
"""What clients of configurable-http-proxy rely on, row by row, and routes over a kill.

    contract.py PROGRAM     a link to it named configurable-http-proxy is made beside a folder of its own
"""

import atexit
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TOKEN = "only-for-this-test"


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Proxy:
    """A proxy in a folder."""

    def __init__(self, program: Path, folder: Path, *options: str | Path) -> None:
        self.public, self.api = free_port(), free_port()
        self.command = [folder / "configurable-http-proxy", "--ip", "127.0.0.1", "--port", str(self.public), "--api-ip",
                        "127.0.0.1", "--api-port", str(self.api), "--log-level", "error", *options]
        if not self.command[0].exists():
            self.command[0].symlink_to(program)
        self.start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def start(self) -> None:
        environment = {**os.environ, "CONFIGPROXY_AUTH_TOKEN": TOKEN}
        self.process = subprocess.Popen(self.command, env=environment)
        atexit.register(self.process.kill)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.api), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("the proxy does not start")

    def ask(self, port: int, path: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, body if isinstance(body, (bytes, type(None))) else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def rest(self, path: str, method: str = "GET", body: object = None) -> tuple[int, str]:
        return self.ask(self.api, path, method, body, Authorization=f"token {TOKEN}")


def check(what: str, found: object, expected: object) -> None:
    if found != expected:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")
    print(f"ok  {what}")


def cases(proxy: Proxy, target: str) -> None:
    rest, public = proxy.rest, lambda path, **headers: proxy.ask(proxy.public, path, **headers)
    check("a route is added", rest("/api/routes/user/a%20b", "POST", {"target": target, "user": "a"}), (201, ""))
    check("without the token", proxy.ask(proxy.api, "/api/routes")[0], 403)
    check("with another token", proxy.ask(proxy.api, "/api/routes", Authorization="token x")[0], 403)
    check("without the token nothing is added", proxy.ask(proxy.api, "/api/routes/x", "POST", {"target": target})[0], 403)
    listed = json.loads(rest("/api/routes")[1])
    check("routes are listed decoded", list(listed), ["/user/a b"])
    check("with what was noted", (listed["/user/a b"]["target"], listed["/user/a b"]["user"]), (target, "a"))
    check("one route", rest("/api/routes/user/a%20b")[0], 200)
    check("no such route", rest("/api/routes/x")[0], 404)
    check("inactive since long ago", rest("/api/routes?inactiveSince=2000-01-01T00:00:00.000Z"), (200, "{}"))
    check("inactive until 2100", list(json.loads(rest("/api/routes?inactive_since=2100-01-01")[1])), ["/user/a b"])
    check("no time", rest("/api/routes?inactiveSince=never")[0], 400)
    check("no JSON", rest("/api/routes/b", "POST", b"x")[0], 400)
    check("no target", rest("/api/routes/b", "POST", {})[0], 400)
    check("a target that is none", rest("/api/routes/b", "POST", {"target": "file:///etc/passwd"})[0], 400)
    check("no such method", rest("/api/routes/b", "PUT", {})[0], 405)
    check("no such path", rest("/api/other")[0], 404)
    status, body = public("/user/a%20b/c?d=%2F", **{"X-Forwarded-Proto": "https", "Connection": "keep-alive, x-mine", "x-mine": "1"})
    seen = json.loads(body)
    check("the target's path comes first, nothing is decoded", (status, seen["path"]), (200, "/t/user/a%20b/c?d=%2F"))
    check("another proxy's word stays first", seen["headers"]["x-forwarded-proto"], "https,http")
    check("headers of the connection end here", "x-mine" in seen["headers"], False)
    check("no route", public("/nothing")[0], 404)
    check("a path that two could read as two", public("/user/a%20b/%2e%2e/x")[0], 400)
    check("healthy", public("/_chp_healthz"), (200, '{"status":"OK"}'))
    before = json.loads(rest("/api/routes/user/a%20b")[1])["last_activity"]
    time.sleep(0.01)
    public("/user/a%20b/")
    after = json.loads(rest("/api/routes/user/a%20b")[1])["last_activity"]
    check("an answer is activity", after > before, True)
    check("a dead target is added", rest("/api/routes/dead", "POST", {"target": "http://127.0.0.1:1"})[0], 201)
    before = rest("/api/routes/dead")[1]
    check("a dead target", public("/dead/x")[0], 503)
    check("an error is no activity", rest("/api/routes/dead")[1], before)
    with socket.create_connection(("127.0.0.1", proxy.public)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (1 << 17) + b"\r\n\r\n")
        check("a head of 128 KiB", client.recv(64).split(b"\r\n")[0], b"HTTP/1.1 431 Request Header Fields Too Large")
    for target, host, status in (("http://a", "b", 400), ("http://a", "A", 200), ("", "a\r\nHost: b", 400), ("", "a", 200)):
        with socket.create_connection(("127.0.0.1", proxy.public)) as client:
            client.sendall(f"GET {target}/user/a%20b/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            check(f"the hosts {target!r} and {host!r}", int(client.recv(64).split()[1]), status)
    proxy.process.kill()
    proxy.process.wait()
    proxy.start()
    check("after a kill", sorted(json.loads(rest("/api/routes")[1])), ["/dead", "/user/a b"])
    check("and they lead where they led", public("/user/a%20b/")[0], 200)
    check("removed", rest("/api/routes/dead", "DELETE"), (204, ""))
    check("removed twice", rest("/api/routes/dead", "DELETE")[0], 404)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cubicle-proxy.") as folder:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = Proxy(Path(sys.argv[1]).resolve(), Path(folder), "--routes", Path(folder) / "routes")
        try:
            cases(proxy, f"http://127.0.0.1:{server.server_port}/t")
        finally:
            proxy.stop()


if __name__ == "__main__":
    main()
