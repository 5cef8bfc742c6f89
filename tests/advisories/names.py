"""Names that look alike, and passwords of accounts that have none."""

from __future__ import annotations

from attacks import Attack
from scene import Scene, check, hold

PASSWORD = "a long password of this test alone"


def homes(scene: Scene) -> None:
    """Names that other hubs made one name of: each has a home of its own."""
    product = scene.product
    names = ("a-b", "a_b", "a.b", "a-2db", "a--b", "ab")
    for name in names:
        product.run("user", "add", name)
    for twin in ("A-B", "\uff41-b", "a\uff0db"):
        said = product.run("user", "add", twin, accept=(0, 2, 4, 5))
        if said.returncode == 0:
            check(twin == "a\uff0db", f"{twin!r} is another account than a-b")
    ids = {user["name"]: user["id"] for user in product.json("user", "list")}
    check(len({ids[name] for name in names}) == len(names), f"{ids}")
    first = product.launch("a-b")["id"]
    product.python(first, "import pathlib; pathlib.Path.home().joinpath('secret').write_text('of a-b')")
    product.run("delete", first)
    look = "import pathlib; p = pathlib.Path.home() / 'secret'; print(p.read_text() if p.exists() else 'nothing')"
    for name in names:
        workspace = product.launch(name)["id"]
        seen = product.python(workspace, look).strip()
        check(seen == ("of a-b" if name == "a-b" else "nothing"), f"{name} sees {seen}")
        product.run("delete", workspace)


def passwords(scene: Scene) -> None:
    """Whoever comes first sets no password, and another spelling is no other account."""

    def attempt(name: str, password: str):
        person = scene.person()
        page = person.ask("GET", "/sign-in")
        fields = {"csrf": page.field("csrf"), "name": name, "password": password, "next": "/"}
        return person, person.post("/sign-in", fields)

    for name in ("guest", "GUEST", "nobody-at-all"):
        person, answer = attempt(name, PASSWORD)
        check(answer.status == 401 and "cubicle_session" not in person.jars["localhost"], f"{name}: {answer.status}")
    guest = scene.person("guest")
    fields = {"csrf": guest.ask("GET", "/account").field("csrf"), "current": "", "password": PASSWORD, "repeat": PASSWORD}
    hold(303, guest.post("/account/password", fields), "setting a password")
    own = guest.call("GET", "/users/me").json()["id"]
    for name in ("guest", "Guest", "\uff47uest"):
        person, answer = attempt(name, "another password altogether")
        check(answer.status == 401, f"{name} with another password: {answer.status}")
        person, answer = attempt(name, PASSWORD)
        hold(303, answer, f"control: {name} with the password")
        check(person.call("GET", "/users/me").json()["id"] == own, f"{name} is another account")
    check([user["name"].lower() for user in scene.product.json("user", "list")].count("guest") == 1, "there are two")


ATTACKS = (
    Attack("CVE-2020-15110", "two names gave one name of a volume: one person had the other's home",
           "homes of `a-b`, `a_b`, `a.b`, `a-2db`, `a--b`, `ab`, and names that differ in case or width",
           "each sees an own home; the last are refused as taken", homes,
           ("crates/cubicle-kube/src/names.rs::no_two_users_share_a_namespace",
            "crates/cubicle-hub/tests/hub/accounts.rs::names_that_look_alike_are_one_account")),
    Attack("GHSA-5xvc-vgmp-jgc3", "a name in another case set a first password of its own for somebody's account",
           "passwords for accounts that have none, and spellings of a name that has one", "401; every spelling is one account",
           passwords),
)
