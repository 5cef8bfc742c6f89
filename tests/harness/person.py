"""A person with a browser that shows nothing: one jar of cookies for each host, redirects one by one, and a
form's hidden fields read out of the page.

Names below `localhost` are the machine's own whatever its resolver says, as in browsers.
"""

from __future__ import annotations

import contextlib
import html
import http.client
import json
import re
import time
import urllib.parse
from dataclasses import dataclass

from product import Product, check


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    # Where it was asked.
    url: str

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self):
        return json.loads(self.body)

    @property
    def place(self) -> str:
        """Where a redirect leads, as an absolute address; empty without one."""
        place = self.headers.get("location")
        return urllib.parse.urljoin(self.url, place) if place else ""

    def field(self, name: str) -> str:
        """The value of a hidden field of the page's first form that has it."""
        found = re.search(rf'name="{re.escape(name)}" value="([^"]*)"', self.text)
        check(found, f"{self.url} ({self.status}) has no field {name}: {self.text[:300]}")
        return html.unescape(found[1])


class Person:
    """One browser."""

    def __init__(self, port: int):
        self.port = port
        self.hub = f"http://localhost:{port}"
        # Cookies know no ports.
        self.jars: dict[str, dict[str, str]] = {}

    def connect(self, port: int | None) -> http.client.HTTPConnection:
        """The connection for one request."""
        return http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, url: str, body: bytes | str | None = None, **headers: str) -> Answer:
        """One request; a path is on the hub's origin. What is given replaces the browser's own headers, whose names
        have `_` for `-`; an empty value leaves one out."""
        with self.asked(method, url, body, **headers) as (said, url):
            answer = Answer(said.status, said.headers, said.read(), url)
        jar = self.jars[urllib.parse.urlsplit(url).hostname]
        for cookie in answer.headers.get_all("set-cookie", []):
            name, _, value = cookie.split(";")[0].partition("=")
            if "max-age=0" in cookie.lower():
                jar.pop(name, None)
            else:
                jar[name] = value
        return answer

    @contextlib.contextmanager
    def asked(self, method: str, url: str, body: bytes | str | None = None, **headers: str):
        """The answer to one request whose body nobody has read yet, and where it was asked."""
        url = urllib.parse.urljoin(self.hub, url)
        parts = urllib.parse.urlsplit(url)
        jar = self.jars.setdefault(parts.hostname, {})
        sent = {"host": parts.netloc, "accept": "text/html"}
        if jar:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        if method == "GET":
            sent |= {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        else:
            sent |= {"origin": f"{parts.scheme}://{parts.netloc}", "sec-fetch-site": "same-origin"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self.connect(parts.port)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        try:
            connection.request(method, target, body, {name: value for name, value in sent.items() if value})
            yield connection.getresponse(), url
        finally:
            connection.close()

    def follow(self, url: str) -> Answer:
        """What stands at the end of all redirects, as JSON."""
        answer = self.ask("GET", url, accept="application/json")
        for _ in range(10):
            if answer.status not in (302, 303, 307):
                return answer
            answer = self.ask("GET", answer.place, accept="application/json")
        raise ValueError(f"too many redirects: {answer.place}")

    def post(self, url: str, fields: dict[str, str], **headers: str) -> Answer:
        """Sends a form."""
        headers.setdefault("content_type", "application/x-www-form-urlencoded")
        return self.ask("POST", url, urllib.parse.urlencode(fields), **headers)

    def call(self, method: str, path: str, value=None, **headers: str) -> Answer:
        """What a script of the hub's own pages asks of the interface."""
        headers = {"accept": "application/json", "sec_fetch_site": "same-origin", "sec_fetch_mode": "cors",
                   "sec_fetch_dest": "empty", **headers}
        if value is None:
            return self.ask(method, f"/api/v1{path}", **headers)
        return self.ask(method, f"/api/v1{path}", json.dumps(value), content_type="application/json", **headers)

    def wait_until_open(self, workspace: str, seconds: float = 300) -> None:
        """Follows the steps of a launch to its end, as the launch page does."""
        page = {"accept": "text/event-stream", "sec_fetch_site": "same-origin", "sec_fetch_mode": "cors", "sec_fetch_dest": "empty"}
        deadline = time.monotonic() + seconds
        with self.asked("GET", f"/api/v1/workspaces/{workspace}/events", **page) as (said, url):
            check(said.status == 200, f"{url}: {said.status}")
            for line in said:
                check(time.monotonic() < deadline, f"{workspace} is not open after {seconds} s")
                name, _, value = line.decode().partition(":")
                event = json.loads(value) if name == "data" else {}
                check(event.get("state") != "failed", f"{workspace} did not open: {event}")
                if (event.get("step"), event.get("state")) == ("open", "done"):
                    return
        check(False, f"{workspace}: the steps ended before it was open")

    def sign_in(self, product: Product, name: str) -> "Person":
        """Signs in by a link that the machine's administrator makes."""
        return self.enter(product.json("user", "sign-in-link", name)["url"])

    def enter(self, link: str) -> "Person":
        """Follows a link to sign in."""
        page = self.ask("GET", link)
        token = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["token"][0]
        done = self.post("/sign-in/link", {"csrf": page.field("csrf"), "token": token, "next": "/"})
        check(done.status == 303, f"nobody is signed in: {done.status} {done.text[:300]}")
        return self

    def token(self, scope: str = "write") -> str:
        """Makes an API token; its secret."""
        made = self.call("POST", "/tokens", {"name": "of a test", "scope": scope})
        check(made.status == 201, f"no token was made: {made.status} {made.text}")
        return made.json()["secret"]
