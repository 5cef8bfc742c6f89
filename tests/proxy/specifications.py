#!/usr/bin/env python3
"""What the specifications of configurable-http-proxy 5.3 ask, as far as it shows outside, in the order of their files.

    specifications.py PROGRAM

Not here, because it is inside that program and has no outside:
  - its event `proxyRequest`, to which JavaScript in the same process listens; a header for every target is --custom-header
  - a storage backend of the user's own, which is a JavaScript module: refused here, and that is asked below
  - its store's `update`, and counters and branches of its tree; what the tree finds is asked below
  - the time of last use set into the past: asked below with times before, between and after two routes were added
Answered otherwise on purpose: a path that is no URI (`/%`) is the client's mistake, so 400 and not 500, with the same page.
"""

import http.client
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
from datetime import datetime, timezone
from pathlib import Path

from contract import Proxy, check, free_port
from targets import Target, receive, send, websocket

PROGRAM = Path(sys.argv[1]).resolve()
# Nobody listens there.
NOWHERE = "https://127.0.0.1:1"


def seen(proxy: Proxy, path: str, **headers: str) -> dict:
    status, body = proxy.ask(proxy.public, path, **headers)
    return json.loads(body) if status == 200 else {"status": status}


def head(proxy: Proxy, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.public, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


def activity(proxy: Proxy, path: str) -> str:
    return json.loads(proxy.rest("/api/routes")[1])[path or "/"]["last_activity"]


def add(proxy: Proxy, path: str, target: str) -> None:
    check(f"{path} leads to {target}", proxy.rest(f"/api/routes{path}", "POST", {"target": target}), (201, ""))


def rest_api(folder: Path) -> None:
    first, second = Target("first"), Target("second")
    proxy = Proxy(PROGRAM, folder, "--default-target", first.url)
    try:
        for path in ("/", "/any/random/url"):
            check(f"the default target has {path}", seen(proxy, path)["name"], "first")
        check("it is a route", list(json.loads(proxy.rest("/api/routes")[1])), ["/"])
        add(proxy, "/path", NOWHERE)
        check("one route", json.loads(proxy.rest("/api/routes/path")[1])["target"], NOWHERE)
        add(proxy, "/user/foo%40bar", second.url)
        for path in ("/user/foo@bar/path", "/user/foo%40bar/path"):
            check(f"{path} leads there", seen(proxy, path)["name"], "second")
        check("listed decoded", "/user/foo@bar" in json.loads(proxy.rest("/api/routes")[1]), True)
        check("a root route", proxy.rest("/api/routes", "POST", {"target": second.url}), (201, ""))
        check("replaces the default", seen(proxy, "/any")["name"], "second")
        check("what is added again is replaced", (proxy.rest("/api/routes/path", "POST", {"target": first.url})[0], seen(proxy, "/path")["name"]), (201, "first"))
        check("deleted", proxy.rest("/api/routes/path", "DELETE"), (204, ""))
        check("and gone", (proxy.rest("/api/routes/path")[0], seen(proxy, "/path")["name"]), (404, "second"))
        check("what is not there is not deleted", proxy.rest("/api/routes/path/foo/bar", "DELETE")[0], 404)
        for path in ("", "/user/foo%40bar"):
            proxy.rest(f"/api/routes{path}", "DELETE")
        check("no routes", proxy.rest("/api/routes"), (200, "{}"))
        add(proxy, "/before", first.url)
        time.sleep(0.05)
        between = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        time.sleep(0.05)
        add(proxy, "/after", first.url)
        for since, expected in (("1970-01-01T00:00:00.001Z", []), (between, ["/before"]), ("2100-01-01T00:00:00.000Z", ["/after", "/before"])):
            check(f"inactive since {since}", sorted(json.loads(proxy.rest(f"/api/routes?inactiveSince={since}")[1])), expected)
        check("inactive since no time", proxy.rest("/api/routes?inactiveSince=endoftheuniverse")[0], 400)
    finally:
        proxy.stop()


def tree(folder: Path) -> None:
    proxy = Proxy(PROGRAM, folder)
    paths = ["/1", "/2", "/a/b/c/d", "/a/b/d", "/a/b/e", "/b", "/b/c", "/b/c/d"]
    try:
        for path in paths:
            add(proxy, path, Target(path).url)
        found = lambda path: seen(proxy, path).get("name")  # noqa: E731
        for path, route in (("/not/found", None), ("/1", "/1"), ("/1/etc/etc/", "/1"), ("/a", None), ("/a/b/c", None), ("/a/b/c/d/e/f", "/a/b/c/d"),
                            ("/b/c/d/word", "/b/c/d"), ("/b/c/dword", "/b/c"), ("/b/just-b", "/b")):
            check(f"{path} is found at {route}", found(path), route)
        proxy.rest("/api/routes/b", "DELETE")
        check("a route that goes leaves those below it", (found("/b/just-b"), found("/b/c/sub")), (None, "/b/c"))
        proxy.rest("/api/routes/a/b/c/d", "DELETE")
        check("and those beside it", (found("/a/b/c/d/word"), found("/a/b/d"), found("/a/b/e")), (None, "/a/b/d", "/a/b/e"))
        add(proxy, "/", Target("/").url)
        add(proxy, "/prefix/sub/tree", Target("deep").url)
        check("a deep route does not change those above", (found("/prefix"), found("/prefix/sub"), found("/prefix/sub/tree")), ("/", "/", "deep"))
        add(proxy, "/prefix", Target("middle").url)
        check("one between does", (found("/prefix"), found("/prefix/sub"), found("/prefix/sub/tree")), ("middle", "middle", "deep"))
        proxy.rest("/api/routes/prefix/", "DELETE")
        check("a first leaf that goes does not take the root", found("/prefix/sub"), "/")
    finally:
        proxy.stop()


def requests(folder: Path) -> None:
    target, plain = Target("target"), Target("plain", websockets=False)
    proxy = Proxy(PROGRAM, folder, "--default-target", target.url)
    try:
        before = activity(proxy, "")
        time.sleep(0.01)
        check("a request", seen(proxy, "/")["url"], "/")
        check("is activity", activity(proxy, "") > before, True)
        before = activity(proxy, "")
        with websocket(("127.0.0.1", proxy.public), "/") as stream:
            check("a WebSocket is greeted by its target", receive(stream), "connected")
            time.sleep(0.01)
            send(stream, "hi", masked=True)
            heard = json.loads(receive(stream))
            check("and heard", (heard["message"], heard["url"]), ("hi", "/"))
            check("which is activity", activity(proxy, "") > before, True)
        connection = http.client.HTTPConnection("127.0.0.1", proxy.public, timeout=30)
        connection.connect()
        kept = connection.sock
        for _ in range(3):
            connection.request("GET", "/")
            connection.getresponse().read()
        check("a connection is kept", connection.sock is kept, True)
        add(proxy, "/bar", f"{target.url}/foo")
        check("the target's path comes first", seen(proxy, "/bar/rest/of/it")["url"], "/foo/bar/rest/of/it")
        check("and the query stays", seen(proxy, "/bar?query=foo")["url"], "/foo/bar?query=foo")
        add(proxy, "/b%40r/b%20r", f"{target.url}/foo")
        for path in ("/b%40r/b%20r/rest/of/it", "/b@r/b%20r/rest/of/it"):
            check(f"{path} is passed as it is", seen(proxy, path)["url"], f"/foo{path}")
        check("healthy", seen(proxy, "/_chp_healthz"), {"status": "OK"})
        check("there is no default any more", proxy.rest("/api/routes", "DELETE")[0], 204)
        for path, leads in (("/missing", NOWHERE), ("/plain", plain.url)):
            add(proxy, path, leads)
        before = activity(proxy, "/missing")
        check("a request to nobody", seen(proxy, "/missing/prefix"), {"status": 503})
        check("is no activity", activity(proxy, "/missing"), before)
        with websocket(("127.0.0.1", proxy.public), "/missing/ws") as stream:
            check("a WebSocket to nobody", stream, 503)
        check("is no activity either", activity(proxy, "/missing"), before)
        with websocket(("127.0.0.1", proxy.public), "/plain/ws") as stream:
            check("a WebSocket to somebody who knows none", stream, 200)
        for path, status, words in (("/nope", 404, "404:"), ("/missing/prefix", 503, "503:")):
            found = head(proxy, path)
            check(f"{status} is a page", (found[0], found[1]["content-type"], words in found[2]), (status, "text/html", True))
        elsewhere = "http://elsewhere.example:12345/whatever"
        add(proxy, "/external/urlpath", Target("leads", leads_to=elsewhere).url + "/internal/urlpath/")
        found = head(proxy, "/external/urlpath/rest/of/it")
        check("a redirect is left alone", (found[0], found[1]["location"]), (301, elsewhere))
    finally:
        proxy.stop()


def options(folder: Path) -> None:
    target = Target("target")
    for given, url in ((["--no-prepend-path"], "/bar/rest/of/it"), (["--no-include-prefix"], "/foo/rest/of/it"),
                       (["--no-prepend-path", "--no-include-prefix"], "/rest/of/it")):
        proxy = Proxy(PROGRAM, folder, *given)
        add(proxy, "/bar", f"{target.url}/foo")
        check(" ".join(given), seen(proxy, "/bar/rest/of/it")["url"], url)
        proxy.stop()
    proxy = Proxy(PROGRAM, folder, "--host-routing")
    add(proxy, "/test.example", target.url)
    check("by host", seen(proxy, "/some/path", Host=f"test.example:{proxy.public}")["url"], "/some/path")
    check("by another host", seen(proxy, "/some/path"), {"status": 404})
    proxy.stop()
    proxy = Proxy(PROGRAM, folder, "--auto-rewrite", "--protocol-rewrite", "https")
    leads = Target("leads")
    leads.leads_to = leads.url.replace("http:", "https:") + "/whatever"
    add(proxy, "/external/urlpath", f"{leads.url}/internal/urlpath/")
    check("a redirect to the target is led to the client's", head(proxy, "/external/urlpath/")[1]["location"], f"https://127.0.0.1:{proxy.public}/whatever")
    proxy.stop()
    for given, words in ((["--custom-header", "invalid"], "NAME:VALUE"), (["--storage-backend", "mybackend"], "--storage-backend")):
        told = subprocess.run([*proxy.command, *given], capture_output=True, text=True, timeout=30)
        check(f"{given[0]} {given[1]} is refused", (told.returncode, words in told.stderr), (2, True))


def errors(folder: Path) -> None:
    def asked(handler) -> str:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)["url"][0]

    for name, page in (("", Target("page", says=asked)), ("on a Unix socket ", Target("page", path=folder / "errors", says=asked))):
        proxy = Proxy(PROGRAM, folder, "--error-target", page.url)
        for path, status in (("/foo/bar", 404), ("/%", 400)):
            found = head(proxy, path)
            check(f"a server of pages {name}is told {path}", (found[0], found[1]["content-type"], found[2]), (status, "text/plain", path))
        proxy.stop()
    pages = folder / "pages"
    pages.mkdir()
    (pages / "404.html").write_text("<p>nothing here</p>")
    (pages / "error.html").write_text("<p>something else</p>")
    proxy = Proxy(PROGRAM, folder, "--error-path", pages)
    add(proxy, "/missing", NOWHERE)
    for path, status, words in (("/nope", 404, "nothing here"), ("/missing/prefix", 503, "something else")):
        found = head(proxy, path)
        check(f"the site's page for {status}", (found[0], found[1]["content-type"], words in found[2]), (status, "text/html", True))
    proxy.stop()


def certificate(folder: Path, name: str) -> list[Path]:
    """A key and a certificate that vouches for itself."""
    key, chain = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", key, "-out", chain]
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    subprocess.run([*command, "-subj", f"/CN={name}", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
    return [key, chain]


def secure(folder: Path) -> None:
    key, chain = certificate(folder, "site")
    target = Target("target")
    plain_port = free_port()
    tls = ssl.create_default_context(cafile=chain)

    def by_tls(proxy: Proxy, path: str) -> dict:
        connection = http.client.HTTPSConnection("127.0.0.1", proxy.public, timeout=30, context=tls)
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def led(port: int) -> tuple[int, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/a?b")
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location")

    site = ["--ssl-key", key, "--ssl-cert", chain, "--default-target", target.url]
    proxy = Proxy(PROGRAM, folder, *site, "--redirect-port", str(plain_port), "--custom-header", "k1: v1", "--custom-header", " k2 : host:123 ")
    answer = by_tls(proxy, "/")
    check("by https", (answer["name"], answer["headers"]["x-forwarded-proto"]), ("target", "https"))
    check("with the site's headers", (answer["headers"]["k1"], answer["headers"]["k2"]), ("v1", "host:123"))
    check("from plain HTTP to https", led(plain_port), (301, f"https://127.0.0.1:{proxy.public}/a?b"))
    proxy.stop()
    proxy = Proxy(PROGRAM, folder, *site, "--redirect-port", str(plain_port), "--redirect-to", "8443")
    check("from plain HTTP to another port", led(plain_port), (301, "https://127.0.0.1:8443/a?b"))
    proxy.stop()

    client_key, client_chain = certificate(folder, "client")
    both = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    both.load_cert_chain(chain, key)
    both.load_verify_locations(client_chain)
    both.verify_mode = ssl.CERT_REQUIRED
    target = Target("behind TLS", tls=both)
    shown = ["--client-ssl-key", client_key, "--client-ssl-cert", client_chain]
    for given, found in (([*shown, "--client-ssl-ca", chain], "behind TLS"), (["--client-ssl-ca", chain], None), (shown, None)):
        proxy = Proxy(PROGRAM, folder, *given)
        add(proxy, "/backend", target.url)
        told = " ".join(str(word) for word in given if str(word).startswith("--"))
        check(f"a target that asks for a certificate, with {told}", seen(proxy, "/backend/urlpath/").get("name"), found)
        proxy.stop()


class Near(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


def sockets(folder: Path) -> None:
    target = Target("on a socket", path=folder / "target")
    proxy = Proxy(PROGRAM, folder)
    add(proxy, "/unix", target.url)
    check("a target on a Unix socket", seen(proxy, "/unix")["name"], "on a socket")
    proxy.stop()
    public = folder / "public"
    process = subprocess.Popen([proxy.command[0], "--socket", public, "--api-socket", folder / "api", "--log-level", "error", "--default-target", target.url])
    try:
        for _ in range(200):
            if public.exists() and (folder / "api").exists():
                break
            time.sleep(0.05)

        def near(path: Path, asked: str) -> dict:
            connection = Near(path)
            connection.request("GET", asked)
            return json.loads(connection.getresponse().read())

        before = near(folder / "api", "/api/routes")["/"]["last_activity"]
        check("a proxy on a Unix socket", near(public, "/x")["url"], "/x")
        time.sleep(0.01)
        with websocket(str(public), "/y") as stream:
            check("a WebSocket there", receive(stream), "connected")
            send(stream, "hi", masked=True)
            check("is heard", json.loads(receive(stream))["message"], "hi")
        check("and is activity", near(folder / "api", "/api/routes")["/"]["last_activity"] > before, True)
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    for part in (rest_api, tree, requests, options, errors, secure, sockets):
        with tempfile.TemporaryDirectory(prefix="cubicle-proxy.") as folder:
            part(Path(folder))


if __name__ == "__main__":
    main()
