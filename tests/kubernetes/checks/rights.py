"""What the platform's accounts may do: the list in the documents against the API server's own answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

from installation import SYSTEM, TREE, Site, namespace_of
from product import Suite, check
from trial import Trial

DOCUMENT = TREE / "docs/kubernetes.md"
ROW = re.compile(r"^\| `(?P<where>[^`]+)` \| `(?P<what>[^`]+)` \| (?P<verbs>[a-z, ]+) \|$")
HEADING = "## What the controller may do"


def reviewed(trial: Trial, user: str, namespace: str) -> set[tuple[str, str]]:
    """Everything that a user may do in a namespace: (resource, verb)."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    words = ["create", "--validate=false", "-f", "-", "-o", "json", f"--as=system:serviceaccount:{user}"]
    for group in ("system:serviceaccounts", f"system:serviceaccounts:{user.partition(':')[0]}", "system:authenticated"):
        words.append(f"--as-group={group}")
    status = json.loads(trial.kubectl(*words, text=json.dumps(review)))["status"]
    check(not status.get("incomplete"), f"the answer is incomplete: {status.get('evaluationError')}")
    found = set()
    for rule in status["resourceRules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    named = "".join(f"[{name}]" for name in rule.get("resourceNames", []))
                    name, slash, part = resource.partition("/")
                    found.add((f"{name}{f'.{group}' if group else ''}{slash}{part}{named}", verb))
    found |= {(path, verb) for rule in status["nonResourceRules"] for path in rule["nonResourceURLs"] for verb in rule["verbs"]}
    return found


def live(site: Site, tenant: str) -> set[tuple[str, str, str]]:
    """(where, resource, verb), without what every account of the cluster may."""
    user, anybody = f"{SYSTEM}:cubicle-controller", "default:default"
    others = ("cubicle-canary", "cubicle-egress", "default")
    places = {"everywhere": tenant, SYSTEM: SYSTEM, **{name: name for name in others}}
    found: set[tuple[str, str, str]] = set()
    everywhere: set[tuple[str, str]] = set()
    for where, namespace in places.items():
        own = reviewed(site.trial, user, namespace) - reviewed(site.trial, anybody, namespace) - everywhere
        if where == "everywhere":
            everywhere = own
        found |= {(where, what, verb) for what, verb in own}
    return found


def documented() -> set[tuple[str, str, str]]:
    """The same from the table in the documents."""
    text = DOCUMENT.read_text().partition(HEADING)[2].partition("\n## ")[0]
    found = set()
    for line in text.splitlines():
        if row := ROW.match(line):
            found |= {(row["where"], row["what"], verb.strip()) for verb in row["verbs"].split(",")}
    return found


def table(rights: set[tuple[str, str, str]]) -> str:
    """The table's rows."""
    rows: dict[tuple[str, str], list[str]] = {}
    for where, what, verb in sorted(rights):
        rows.setdefault((where, what), []).append(verb)
    order = sorted(rows, key=lambda row: (row[0] != "everywhere", row))
    return "\n".join(f"| `{where}` | `{what}` | {', '.join(rows[where, what])} |" for where, what in order)


def cases(suite: Suite, site: Site, control: str) -> None:
    """The document's list, and what must not be in it."""
    trial, tenant = site.trial, namespace_of(control)
    with suite.case("rights: the controller's are those that docs/kubernetes.md lists"):
        is_so, said = live(site, tenant), documented()
        check(
            is_so == said,
            f"not in the document: {sorted(is_so - said)}; only there: {sorted(said - is_so)}; the table is\n{table(is_so)}",
        )
        print(f"       {len(is_so)} rights")

    with suite.case("rights: no secret, no rights of others, no exec; a tenant's account has none at all"):
        user = f"--as=system:serviceaccount:{SYSTEM}:cubicle-controller"
        for namespace in (tenant, SYSTEM):
            for words in (
                ["get", "secrets"],
                ["list", "secrets"],
                ["create", "pods", "--subresource=exec"],
                ["patch", "pods", "--subresource=ephemeralcontainers"],
                ["create", "serviceaccounts", "--subresource=token"],
                ["create", "rolebindings"],
                ["impersonate", "users"],
            ):
                said = trial.kubectl("auth", "can-i", *words, "-n", namespace, user, accept=(0, 1))
                check(said.strip() == "no", f"the controller may {' '.join(words)} in {namespace}")
                said = trial.kubectl("auth", "can-i", *words, "-n", namespace)
                check(said.strip() == "yes", f"the control, an administrator, may not {' '.join(words)}")
        anybody = reviewed(trial, "default:default", tenant)
        account = trial.get("pod", control, "-n", tenant)["spec"]["serviceAccountName"]
        # Nobody asks whether an account is there before it may be impersonated.
        trial.get("serviceaccount", account, "-n", tenant)
        more = reviewed(trial, f"{tenant}:{account}", tenant) - anybody
        check(not more, f"a tenant's account may {sorted(more)}")
