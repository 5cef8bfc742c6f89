"""Redirects, other origins' requests, other people's workspaces, what is left after a sign-out, and logs."""

from __future__ import annotations

import json
import os
import socket
import urllib.parse

from attacks import Attack
from scene import Scene, check, follow, hold, quote, wait_for

# Other places in the spellings that browsers and libraries read differently.
ELSEWHERE = (
    "https://evil.example", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
    "\t//evil.example", "/\n/evil.example", "http:evil.example", "http:/evil.example", "HTTP://evil.example", "//evil.example/%2f..",
    "/%09/evil.example", "/%5cevil.example", "javascript:alert(1)", "data:text/html,x", "//evil%2eexample", "/.//evil.example",
    "/..//evil.example", "//\u3002evil.example", "@evil.example", ".evil.example", "//user:x@evil.example", " //evil.example",
)


def redirects(scene: Scene) -> None:
    def origin(place: str, base: str = scene.hub) -> str:
        """Where a browser would go: it drops tabs and line ends, and reads backslashes as slashes (URL Standard, 4.4)."""
        read = place.translate({9: None, 10: None, 13: None, 92: "/"}).strip()
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(base, read))
        return f"{parts.scheme}://{parts.netloc}"

    elsewhere = [spelling for spelling in ELSEWHERE if origin(spelling) != scene.hub]
    check(len(elsewhere) > len(ELSEWHERE) / 2, f"control: only {elsewhere} lead elsewhere")

    signed_in = scene.person("ann")
    control = hold(303, signed_in.ask("GET", f"/sign-in?next={quote('/account')}"), "who is signed in goes on")
    check(control.place == f"{scene.hub}/account", f"the control leads to {control.place}")
    for spelling in ELSEWHERE:
        answer = hold(303, signed_in.ask("GET", f"/sign-in?next={quote(spelling)}"), f"next {spelling!r}")
        check(origin(answer.headers["location"]) == scene.hub, f"/sign-in: {spelling!r} leads to {answer.headers['location']!r}")
        page = hold(200, scene.person().ask("GET", f"/sign-in?next={quote(spelling)}"), f"the form with {spelling!r}")
        check(origin(page.field("next")) == scene.hub, f"the form keeps {page.field('next')!r}")
        opened = hold(303, signed_in.ask("GET", f"/workspaces/{scene.workspaces['ann']}/open?next={quote(spelling)}"), "open")
        entered = hold(303, signed_in.ask("GET", opened.place), f"entering with {spelling!r}")
        place, base = entered.headers["location"], scene.workspace_url("ann")
        check(origin(place, base) == scene.workspace_url("ann", ""), f"open: {spelling!r} leads to {place!r}")


def sign_out(scene: Scene) -> None:
    one = scene.opened(scene.person("ann"), "ann")
    other_tab = scene.workspace_url("ann", "/api/status")
    hold(200, one.ask("GET", other_tab), "control: before the sign-out")
    kept = dict(one.jars)
    kept = {host: dict(jar) for host, jar in kept.items()}
    socket_url = urllib.parse.urlsplit(other_tab)
    with socket.create_connection(("127.0.0.1", scene.product.port), 30) as open_socket:
        cookies = "; ".join(f"{name}={value}" for name, value in one.jars[socket_url.hostname].items())
        open_socket.sendall((f"GET /api/events/subscribe HTTP/1.1\r\nHost: {socket_url.netloc}\r\nOrigin: http://{socket_url.netloc}\r\n"
                             "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {cookies}\r\n\r\n").encode())
        check(b" 101 " in open_socket.recv(200), "control: the other tab's WebSocket does not open")
        page = one.ask("GET", "/account")
        hold(303, one.post("/sign-out", {"csrf": page.field("csrf")}), "signing out")
        open_socket.settimeout(5)
        while open_socket.recv(4096):
            pass
    # The other tab goes on asking, with every cookie that it had.
    for _ in range(3):
        one.jars = {host: dict(jar) for host, jar in kept.items()}
        answer = one.ask("GET", other_tab, sec_fetch_mode="cors", sec_fetch_dest="empty", sec_fetch_site="same-origin")
        check(answer.status in (303, 401, 403), f"the other tab still gets {answer.status}")
        check("cubicle_workspace" not in (answer.headers.get("set-cookie") or ""), "the other tab got a new cookie")
    one.jars = kept
    hold(401, one.call("GET", "/users/me"), "the session's cookie after the sign-out")


def tossed_cookies(scene: Scene) -> None:
    ann, bob = scene.person("ann"), scene.person("bob")
    jar = ann.jars["localhost"]
    good, planted = jar["cubicle_session"], bob.jars["localhost"]["cubicle_session"]
    hold(200, ann.call("GET", "/users/me"), "control: the own cookie")
    for text in (f"cubicle_session={planted}; cubicle_session={good}", f"cubicle_session={good}; cubicle_session={planted}"):
        answer = ann.call("GET", "/users/me", cookie=text)
        check(answer.status == 401, f"two sessions' cookies: {answer.status} {answer.text[:200]}")
    # A sibling origin plants what forms are bound to, and makes the browser sign in as the attacker.
    link = scene.product.json("user", "sign-in-link", "bob")["url"]
    token = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["token"][0]
    attacker, victim = scene.person(), scene.person()
    csrf = attacker.ask("GET", link).field("csrf")
    victim.jars["localhost"] = dict(attacker.jars["localhost"])
    for origin in (scene.workspace_url("bob", ""), "null", "http://evil.example"):
        answer = victim.post("/sign-in/link", {"csrf": csrf, "token": token, "next": "/"}, origin=origin, sec_fetch_site="same-site")
        check(answer.status == 403 and "cubicle_session" not in victim.jars["localhost"], f"from {origin}: {answer.status}")
    hold(303, attacker.post("/sign-in/link", {"csrf": csrf, "token": token, "next": "/"}), "control: the attacker's own browser")


def forged_requests(scene: Scene) -> None:
    ann = scene.person("ann")
    before = len(scene.product.json("list"))
    page = ann.ask("GET", "/account")
    body = json.dumps({"template": "jupyterlab"})
    ways = (
        ("POST", "/api/v1/workspaces", body, "application/json"),
        ("POST", "/api/v1/workspaces", body, "text/plain"),
        ("POST", "/workspaces", "template=jupyterlab", "application/x-www-form-urlencoded"),
        ("POST", "/launch/jupyterlab", "", "application/x-www-form-urlencoded"),
        ("POST", "/launch/jupyterlab", f"csrf={page.field('csrf')}", "application/x-www-form-urlencoded"),
        ("DELETE", f"/api/v1/workspaces/{scene.workspaces['ann']}", None, ""),
        ("POST", f"/workspaces/{scene.workspaces['ann']}/stop", "", "application/x-www-form-urlencoded"),
    )
    origins = (("http://evil.example", "cross-site"), ("null", "cross-site"), (scene.workspace_url("bob", ""), "same-site"),
               ("", "same-site"), ("", "none"), ("", ""))
    for method, path, text, kind in ways:
        for origin, site in origins:
            answer = ann.ask(method, path, text, origin=origin, sec_fetch_site=site, content_type=kind)
            check(answer.status == 403, f"{method} {path} as {kind} from {origin!r}, {site!r}: {answer.status}")
    # A link or an image changes nothing, wherever it stands.
    for path in ("/launch/jupyterlab", "/workspaces"):
        answer = ann.ask("GET", path)
        check(answer.status in (404, 405), f"GET {path}: {answer.status}")
    for path in ("/launch/jupyterlab", "/workspaces"):
        answer = ann.post(path, {"template": "jupyterlab"})
        check(answer.status == 403, f"POST {path} without the form's token: {answer.status}")
    answer = ann.call("POST", "/workspaces", content_type="text/plain")
    check(answer.status in (400, 415), f"a body that is no JSON: {answer.status}")
    check(len(scene.product.json("list")) == before, "a workspace was launched")
    check(scene.product.json("show", scene.workspaces["ann"])["state"] == "running", "ann's workspace was stopped")
    made = hold(201, ann.call("POST", "/tokens", {"name": "control", "scope": "read"}), "control: from the own page")
    hold(204, ann.call("DELETE", f"/tokens/{made.json()['id']}"), "control: from the own page")


def long_names(scene: Scene) -> None:
    marker = f"forged-{os.getpid()}"
    person = scene.person()
    before = (len(scene.audit_log()), (scene.product.home / "serve.log").stat().st_size)
    tried = 0
    for name in ("a" * 100_000, f"x\n{marker} INFO signed in admin\r\n", f"\x1b]0;{marker}\x07", "\u202e" + marker, "x" * 120_000):
        page = person.ask("GET", "/sign-in")
        answer = person.post("/sign-in", {"csrf": page.field("csrf"), "name": name, "password": "x", "next": "/"})
        check(answer.status in (400, 401, 413, 429), f"{answer.status}")
        tried += 1
    lines = scene.audit_log()[before[0]:]
    grown = (scene.product.home / "serve.log").stat().st_size - before[1]
    check(lines.count(b"\n") >= tried - 1, f"control: {tried} attempts left {lines.count(chr(10).encode())} lines")
    check(len(lines) < 2000 * tried and grown < 2000 * tried, f"logs grew by {len(lines)} and {grown} bytes")
    for line in lines.splitlines():
        json.loads(line)
    for log in (lines, (scene.product.home / "serve.log").read_bytes()[before[1]:]):
        check(not any(byte < 0x20 and byte != 0x0A for byte in log), "a control character is in a log")
        check(not any(line.startswith(marker.encode()) for line in log.splitlines()), "a line was forged")


def shared_workspaces(scene: Scene) -> None:
    ann, bob = scene.opened(scene.person("ann"), "ann"), scene.opened(scene.person("bob"), "bob")
    own, other = scene.workspaces["bob"], scene.workspaces["ann"]
    hold(200, bob.call("GET", f"/workspaces/{own}/report"), "control: the own report")
    hold(200, bob.ask("GET", scene.workspace_url("bob", "/api/status")), "control: the own notebook")
    for method, path in (("GET", ""), ("GET", "/report"), ("GET", "/usage"), ("GET", "/logs"), ("GET", "/events"),
                         ("POST", "/start"), ("POST", "/stop"), ("POST", "/verify"), ("DELETE", "")):
        hold(404, bob.call(method, f"/workspaces/{other}{path}"), f"{method} of another's workspace{path}")
    for path in ("", "/open", "/isolation", "/delete"):
        hold(404, bob.ask("GET", f"/workspaces/{other}{path}"), f"the page {path} of another's workspace")
    check(other not in bob.call("GET", "/workspaces").text, "another's workspace is listed")
    hold({400, 403}, bob.call("GET", "/workspaces?user=ann"), "asking for another's list")
    # The cookie of one workspace at the origin of another; a ticket for one at the other.
    notebook = urllib.parse.urlsplit(scene.workspace_url("ann")).hostname
    mine = bob.jars[urllib.parse.urlsplit(scene.workspace_url("bob")).hostname]
    bob.jars[notebook] = dict(mine)
    answer = bob.ask("GET", scene.workspace_url("ann", "/api/status"), sec_fetch_mode="cors", sec_fetch_dest="empty",
                     sec_fetch_site="same-origin")
    check(answer.status in (303, 401, 403), f"another workspace's cookie: {answer.status}")
    bob.jars[notebook] = {}
    ticket = hold(303, bob.ask("GET", f"/workspaces/{own}/open?next=/"), "a ticket").place
    answer = bob.ask("GET", ticket.replace(own, other))
    check(answer.status >= 400 and not bob.jars[notebook], f"a ticket for another workspace: {answer.status}")
    hold(200, ann.ask("GET", scene.workspace_url("ann", "/api/status")), "control: the owner's own")


def raised_rights(scene: Scene) -> None:
    tokens = {name: scene.person(name).token(scope) for name, scope in (("bob", "write"), ("root2", "read"))}
    template = scene.person("root2").call("GET", "/templates/jupyterlab").json()
    ways = (("POST", "/users", {"name": "planted", "admin": True}), ("POST", "/users", {"name": "planted", "role": "admin"}),
            ("POST", "/users/root2/sign-in-link", None), ("POST", "/users/root2/disable", None),
            ("POST", "/users/bob/sign-in-link", None), ("PUT", "/templates/jupyterlab", template),
            ("DELETE", "/templates/jupyterlab", None), ("POST", "/workspaces", {"template": "jupyterlab", "user": "ann"}),
            ("POST", "/tokens", {"name": "more", "scope": "write"}))
    for name, token in tokens.items():
        for method, path, value in ways:
            bearer = {"authorization": f"Bearer {token}", "cookie": ""}
            answer = scene.person().call(method, path, value, **bearer)
            check(answer.status == 403, f"{name}'s token: {method} {path} {value}: {answer.status} {answer.text[:200]}")
    names = {user["name"] for user in scene.product.json("user", "list")}
    check("planted" not in names, "an account was made")
    hold(201, scene.person("root2").call("POST", "/users", {"name": "by-an-administrator"}), "control: an administrator")


def partial_rights(scene: Scene) -> None:
    auditor = scene.person("auditor")
    other = scene.workspaces["ann"]
    hold(200, auditor.call("GET", f"/workspaces/{other}/report"), "control: an auditor reads reports")
    hold(200, auditor.ask("GET", "/admin/log"), "control: an auditor reads the log")
    for method, path, value in (("POST", "/users", {"name": "planted", "role": "auditor"}), ("POST", "/users/ann/disable", None),
                                ("POST", "/users/auditor/enable", None), ("POST", "/users/ann/sign-in-link", None),
                                ("POST", "/workspaces", {"template": "jupyterlab"}), ("PUT", "/templates/x", {}),
                                ("POST", "/workspaces", {"template": "jupyterlab", "user": "ann"})):
        answer = auditor.call(method, path, value)
        check(answer.status in (400, 403), f"an auditor: {method} {path}: {answer.status}")
    for method, path in (("POST", "/stop"), ("POST", "/start"), ("POST", "/verify"), ("DELETE", ""), ("GET", "/logs")):
        answer = auditor.call(method, f"/workspaces/{other}{path}")
        check(answer.status in (403, 404), f"an auditor: {method} {path}: {answer.status}")
    check(follow(auditor, "GET", f"/workspaces/{other}/open").status in (403, 404), "an auditor enters a notebook")
    # What an account may do is asked at every request: a token made before is worth what the account is now.
    guest = scene.person("guest")
    token = guest.token()
    bearer = {"authorization": f"Bearer {token}", "cookie": ""}
    hold(200, guest.call("GET", "/users/me", **bearer), "control: a token of an open account")
    hold(200, scene.person("root2").call("POST", "/users/guest/disable"), "closing the account")
    hold(401, guest.call("GET", "/users/me", **bearer), "a token of a closed account")
    hold(401, guest.call("GET", "/users/me"), "a session of a closed account")
    hold(200, scene.person("root2").call("POST", "/users/guest/enable"), "opening the account")


def stored_scripts(scene: Scene) -> None:
    """A script in a notebook runs on the workspace's origin, with what a browser sends from there."""
    ann = scene.opened(scene.person("ann"), "ann")
    page = "<script>fetch('/')</script>"
    code = f"import pathlib; pathlib.Path.home().joinpath('stored.html').write_text({page!r})"
    scene.product.python(scene.workspaces["ann"], code)
    stored = hold(200, ann.ask("GET", scene.workspace_url("ann", "/files/stored.html")), "the stored page")
    check(page in stored.text, "control: the script is not served at all")
    notebook = scene.workspace_url("ann", "")
    cross = {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors", "sec_fetch_dest": "empty", "origin": notebook}
    for method, path, value in (("GET", "/users/me", None), ("GET", "/workspaces", None), ("POST", "/tokens", {"name": "x", "scope": "write"}),
                                ("POST", "/workspaces", {"template": "jupyterlab"})):
        answer = ann.call(method, path, value, **cross)
        check(answer.status == 403, f"a script of a notebook: {method} {path}: {answer.status}")
        check(not answer.headers.get("access-control-allow-origin"), "another origin may read answers")
        other = ann.call(method, path, value, **cross | {"sec_fetch_site": "", "sec_fetch_mode": "", "sec_fetch_dest": ""})
        if method != "GET":
            check(other.status == 403, f"a browser without Fetch Metadata: {method} {path}: {other.status}")
    hold(200, ann.call("GET", "/users/me"), "control: a script of the hub's own page")
    hub = ann.ask("GET", "/account")
    check(hub.headers.get("x-frame-options") == "DENY", "the hub's pages can be framed")
    answer = ann.ask("GET", scene.workspace_url("bob", "/files/x"), **cross)
    check(answer.status in (303, 401, 403), f"a script of a notebook at another's: {answer.status}")
    # Neither cookie can be read by a script or is sent to another host.
    link = scene.product.json("user", "sign-in-link", "ann")["url"]
    fresh = scene.person()
    token = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["token"][0]
    done = fresh.post("/sign-in/link", {"csrf": fresh.ask("GET", link).field("csrf"), "token": token, "next": "/"})
    entered = fresh.ask("GET", fresh.ask("GET", f"/workspaces/{scene.workspaces['ann']}/open?next=/").place)
    for answer, name in ((done, "cubicle_session="), (entered, "cubicle_workspace=")):
        [cookie] = [one for one in answer.headers.get_all("set-cookie") if one.startswith(name)]
        check("HttpOnly" in cookie and "domain" not in cookie.lower(), cookie)


def aborted_connections(scene: Scene) -> None:
    from leftovers import descriptors

    hub = scene.product.hub_pid()
    ann = scene.opened(scene.person("ann"), "ann")
    url = urllib.parse.urlsplit(scene.workspace_url("ann", "/api/status"))
    cookies = "; ".join(f"{name}={value}" for name, value in ann.jars[url.hostname].items())
    head = f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nCookie: {cookies}\r\nSec-Fetch-Site: none\r\n".encode()
    before = descriptors(hub)
    for number in range(300):
        with socket.create_connection(("127.0.0.1", scene.product.port), 30) as client:
            # Cut off in the head, or before the answer.
            client.sendall(head + (b"\r\n" if number % 2 else b""))
    wait_for("an end of the aborted connections", lambda: descriptors(hub) <= before + 10, 60)
    hold(200, ann.ask("GET", scene.workspace_url("ann", "/api/status")), "control: the same request, waited for")


ATTACKS = (
    Attack("CVE-2019-10255, CVE-2026-33709", "a link to the sign-in page led to another site afterwards",
           f"{len(ELSEWHERE)} spellings of another site as `next`, at signing in, when signed in, at opening a workspace",
           "the browser stays on the hub, or on the workspace's own origin", redirects,
           ("crates/cubicle-hub/tests/hub/providers.rs::next_stays_on_this_site_in_every_spelling",)),
    Attack("GHSA-cw7p-q79f-m2v7", "another open tab brought the credentials back after a sign-out",
           "a second tab that asks on with all its cookies, and its WebSocket, after a sign-out",
           "the WebSocket closes, nothing answers, no new cookie", sign_out),
    Attack("CVE-2024-28233", "a user's subdomain planted cookies for the hub",
           "two sessions' cookies in one request; a form with a planted visitor's cookie from a sibling origin",
           "nobody is signed in", tossed_cookies,
           ("crates/cubicle-hub/tests/hub/hostile.rs::headers_that_reach_further_than_the_answer_are_dropped",
            "crates/cubicle-hub/tests/hub/sign_in.rs::a_planted_second_cookie_is_not_believed")),
    Attack("CVE-2026-40864", "another site made a browser launch and change things",
           "launch, stop and delete from other origins, without an origin, as plain text, without the form's token",
           "403, and nothing happened", forged_requests,
           ("crates/cubicle-hub/tests/hub/sign_in.rs::forms_of_other_pages_do_nothing",)),
    Attack("CVE-2026-54338", "names without end filled the log, by nobody signed in",
           "names of 120,000 characters, with line ends, escapes and directions", "at most 2,000 bytes each, one line, no control character",
           long_names, ("crates/cubicle-hub/tests/hub/log.rs::whoever_does_or_tries_something_is_on_record",)),
    Attack("GHSA-c4gm-pwx9-9w8j", "sharing gave more than was shared",
           "another's workspace by every route, by another workspace's cookie, by another's ticket", "404, or no entry",
           shared_workspaces, ("crates/cubicle-hub/tests/hub/strangers.rs::another_users_workspace_is_not_there",
                               "crates/cubicle-hub/tests/hub/origins.rs::a_ticket_is_good_once_and_for_one_workspace")),
    Attack("CVE-2024-41942", "who may make users could make an administrator",
           "a user's token, and an administrator's reading one, at everything that gives rights", "403, and no account",
           raised_rights),
    Attack("GHSA-69wv-m5fw-2fhp", "limits of a partial administrator did not hold",
           "an auditor at everything that changes; tokens and sessions of an account that was closed", "403, 404 or 401",
           partial_rights, ("crates/cubicle-hub/tests/hub/roles.rs::an_auditor_sees_reports_and_launches_nothing",)),
    Attack("CVE-2026-44727", "a script stored in a notebook ran with the reader's rights",
           "a page with a script in a home, and what a browser sends for it to hub and other workspaces",
           "403, no readable answer, no cookie within reach", stored_scripts),
    Attack("CHP 388, 434, 557", "aborted connections were never closed", "300 requests cut off in the head or before the answer",
           "the hub has the descriptors that it had", aborted_connections),
)
