"""What a provider says of a person, and what it does not."""

from __future__ import annotations

import os
import subprocess
import urllib.parse

from attacks import Attack
from scene import SIGN_IN, Scene, check, follow, form, hold

from leftovers import memory


def groups(scene: Scene) -> None:
    ada, page = scene.through_provider("ada")
    hold(200, page, "control: a member")
    check(ada.call("GET", "/users/me").json()["role"] == "admin", "control: an operator is an administrator")
    for subject in ("mallory", "trudy", "a-stranger"):
        person, page = scene.through_provider(subject)
        hold(403, page, f"{subject}, who is in none of the groups")
        hold(401, person.call("GET", "/users/me"), f"{subject} afterwards")


def domains(scene: Scene) -> None:
    """An address proves no membership: eve's, trudy's and ada's are in one domain."""
    for subject in ("trudy",):
        _, page = scene.through_provider(subject)
        hold(403, page, f"{subject}, with the right domain and the wrong groups")
    eve, page = scene.through_provider("eve")
    hold(200, page, "control: a member with the same domain")
    check(eve.call("GET", "/users/me").json()["groups"] == ["chemistry"], "groups come from something else than the groups")


def unverified(scene: Scene) -> None:
    ada, _ = scene.through_provider("ada")
    eve, _ = scene.through_provider("eve")
    one, two = ada.call("GET", "/users/me").json(), eve.call("GET", "/users/me").json()
    check(one["id"] != two["id"] and one["name"] != two["name"], f"eve is ada: {two}")
    check(one["role"] == "admin" and two["role"] == "user", f"eve has {two['role']}")
    again, _ = scene.through_provider("ada")
    check(again.call("GET", "/users/me").json()["id"] == one["id"], "control: ada is the same the next time")
    check(scene.person("ann").call("GET", "/users/me").json()["issuer"] is None, "control: local accounts are local")


def unread_settings(scene: Scene) -> None:
    """A list of who may come in that is not understood keeps everybody out: nothing starts."""
    text = SIGN_IN.format(issuer=scene.issuer)
    check("requiredGroups" in text, "the setting has another name")
    for wrong in ("allowedGroups", "requiredGroup", "required_groups", "whitelist"):
        document = scene.folder / "wrong.yaml"
        document.write_text(text.replace("requiredGroups", wrong))
        home = scene.folder / "home"
        environment = {**os.environ, "CUBICLE_SIGN_IN": str(document), "CUBICLE_HOME": str(home)}
        done = subprocess.run([scene.product.program, "serve", "--listen", "127.0.0.1:1"], env=environment, capture_output=True,
                              stdin=subprocess.DEVNULL, text=True, timeout=60)
        check(done.returncode == 2 and wrong in done.stderr and "wrong.yaml:" in done.stderr, f"{wrong}: {done.stderr}")
        check(not (home / "engine").exists(), f"{wrong}: something was started")


def forged_returns(scene: Scene) -> None:
    """What nobody proved is not remembered: returns with a code that the provider does not know use nothing up."""
    person = scene.person()
    started = hold(303, person.ask("GET", "/sign-in/with/campus?next=/account"), "an attempt")
    state = urllib.parse.parse_qs(urllib.parse.urlsplit(started.place).query)["state"][0]
    back, kept = f"/sign-in/with/campus/back?state={state}", dict(person.jars["localhost"])
    hub = scene.product.hub_pid()
    before = memory(hub)
    for number in range(200):
        person.jars["localhost"] = dict(kept)
        answer = person.ask("GET", f"{back}&code={number}{'c' * 1000}")
        check(answer.status == 401 and "cubicle_session" not in person.jars["localhost"], f"a forged return: {answer.status}")
    grown = memory(hub) - before
    check(grown < 2 << 20, f"the hub grew by {grown} bytes")
    # Control: the same attempt with the provider's own code works, and then no more.
    person.jars["localhost"] = dict(kept)
    page = follow(person, "GET", started.place)
    while page.url.startswith(scene.issuer):
        action, fields = form(page, "/interaction/")
        answer = person.post(action, fields | ({"login": "ada", "password": "x"} if "login" in fields else {}))
        while answer.place.startswith(scene.issuer):
            answer = person.ask("GET", answer.place)
        if answer.place.startswith(scene.hub):
            break
        page = answer
    hold(303, person.ask("GET", answer.place), "control: the provider's own return")
    check(person.call("GET", "/users/me").json()["name"] == "ada", "control: somebody else came back")
    person.jars["localhost"] = dict(kept)
    again = person.ask("GET", answer.place)
    check(again.status == 401 and "cubicle_session" not in person.jars["localhost"], f"the same return again: {again.status}")


ATTACKS = (
    Attack("CVE-2018-7206, GHSA-gprj-3p75-f996", "who was in none of the groups, or came by another way, was let in",
           "people without a group that may come in, one of them with an administrator's role", "403, and no session", groups,
           ("crates/cubicle-hub/tests/hub/providers.rs::required_groups_keep_others_out",)),
    Attack("GHSA-r7v4-jwx9-wx43, GHSA-55m3-44xf-hg4h", "an address in a domain counted as membership of an institution",
           "an address of the operators' domain, also in `hd`, without the group", "403; groups and roles are what the claims for them say",
           domains),
    Attack("GHSA-384w-5v3f-q499", "a list of who may come in was not read because its name had changed",
           "the setting in four other spellings", "nothing starts; file, line and setting are named", unread_settings),
    Attack("CVE-2026-33175", "an address that nobody had verified was taken for the person",
           "another subject with ada's name and address, unverified", "another account, with no rights of ada's", unverified,
           ("crates/cubicle-hub/tests/hub/providers.rs::nobody_is_merged_by_name",)),
    Attack("CVE-2026-34052", "one-time values of unproven requests were kept without end",
           "200 returns of a real attempt with codes of nobody's, then the real one, twice",
           "refused; nothing is used up or remembered; the real one works once", forged_returns,
           ("crates/cubicle-hub/tests/hub/providers.rs::an_answer_is_for_the_browser_that_asked_and_works_once",)),
)
