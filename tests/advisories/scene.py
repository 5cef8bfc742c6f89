"""What the attacks run against: a hub with the local engine and a real OpenID Connect provider, and people in browsers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
from html import unescape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))
from person import Answer, Person  # noqa: E402
from product import SOURCE, Product, check, free_port, wait_for  # noqa: E402

SIGN_IN = """
providers:
- name: campus
  title: Campus login
  issuer: {issuer}
  clientId: cubicle
  clientSecretFile: secret
  adminRoles: [operators]
  auditorRoles: [auditors]
  requiredGroups: [staff, chemistry]
"""


class Scene:
    """Hub and provider; `ann` and `bob` are local users with a running workspace each, `root2` is an administrator."""

    def __init__(self, node: list[str]):
        self.folder = Path(tempfile.mkdtemp(prefix="cubicle-advisories-"))
        self.folder.chmod(0o755)
        document = self.folder / "sign-in.yaml"
        self.product = Product(environment={"CUBICLE_SIGN_IN": str(document)})
        self.hub = f"http://localhost:{self.product.port}"
        place = f"127.0.0.1:{free_port()}"
        self.issuer = f"http://{place}"
        document.write_text(SIGN_IN.format(issuer=self.issuer))
        (self.folder / "secret").write_text("a-secret-of-this-test-alone")
        self.node, self.place, self.provider = node, place, None

    def __enter__(self) -> "Scene":
        log = self.folder / "provider.log"
        with log.open("wb") as out:
            # It ends with this end of the pipe.
            self.provider = subprocess.Popen([*self.node, SOURCE / "tests/sign-in/provider.mjs", self.place, self.hub],
                                             stdin=subprocess.PIPE, stdout=out, stderr=out)
        try:
            wait_for("the provider", lambda: "is ready" in log.read_text())
            self.product.__enter__()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        product = self.product
        product.run("user", "add", "root2", "--admin")
        for name in ("ann", "bob", "guest"):
            product.run("user", "add", name)
        product.run("user", "add", "auditor", "--role", "auditor")
        self.workspaces = {name: product.launch(name)["id"] for name in ("ann", "bob")}
        return self

    def __exit__(self, *error) -> None:
        self.product.__exit__(*error)
        if self.provider is not None:
            self.provider.stdin.close()
            self.provider.wait(30)

    # === people ===

    def person(self, name: str | None = None) -> Person:
        """A new browser; with a name, signed in by link."""
        person = Person(self.product.port)
        return person.sign_in(self.product, name) if name else person

    def through_provider(self, subject: str, following: str = "/account", person: Person | None = None) -> tuple[Person, Answer]:
        """A browser that went through the provider as this subject, and where it ended."""
        person = person or Person(self.product.port)
        page = follow(person, "GET", f"/sign-in/with/campus?next={quote(following)}")
        for _ in range(5):
            if page.url.startswith(self.hub) or not page.url.startswith(self.issuer):
                return person, page
            action, fields = form(page, "/interaction/")
            if "login" in fields:
                fields |= {"login": subject, "password": "x"}
            page = follow(person, "POST", action, urllib.parse.urlencode(fields))
        raise ValueError(f"the provider does not come to an end: {page.url}")

    def workspace_url(self, name: str, path: str = "/") -> str:
        return f"http://{self.workspaces[name]}.localhost:{self.product.port}{path}"

    def opened(self, person: Person, name: str) -> Person:
        """Lets a browser open somebody's workspace as far as it may."""
        follow(person, "GET", f"/workspaces/{self.workspaces[name]}/open?next=/api/status")
        return person

    def audit_log(self) -> bytes:
        return (self.product.home / "hub/audit.jsonl").read_bytes()


def quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def follow(person: Person, method: str, url: str, body: str | None = None) -> Answer:
    """Follows redirects, but for those that lead to none of this machine's names."""
    headers = {"content_type": "application/x-www-form-urlencoded"} if body is not None else {}
    answer = person.ask(method, url, body, **headers)
    for _ in range(20):
        host = urllib.parse.urlsplit(answer.place).hostname or ""
        if not 300 <= answer.status < 400 or not (host in ("localhost", "127.0.0.1") or host.endswith(".localhost")):
            return answer
        answer = person.ask("GET", answer.place)
    raise ValueError(f"too many redirects, the last to {answer.place}")


def form(page: Answer, action: str) -> tuple[str, dict[str, str]]:
    """Where a page's form leads whose action holds this text, and its fields."""
    for head, body in re.findall(r"<form([^>]*)>(.*?)</form>", page.text, re.S):
        target = unescape(re.search(r'action="([^"]*)"', head)[1]) if "action=" in head else ""
        if action in target:
            inputs = re.findall(r"<input[^>]*>", body)
            names = {re.search(r'name="([^"]*)"', one)[1]: unescape((re.search(r'value="([^"]*)"', one) or ["", ""])[1])
                     for one in inputs if "name=" in one}
            return urllib.parse.urljoin(page.url, target), names
    raise ValueError(f"no form to {action} at {page.url} ({page.status}): {page.text[:300]}")


def hold(expected: int | set[int], answer: Answer, what: str) -> Answer:
    """Fails unless the answer has this status."""
    allowed = {expected} if isinstance(expected, int) else expected
    check(answer.status in allowed, f"{what}: {answer.status} instead of {expected}: {answer.text[:300]}")
    return answer
