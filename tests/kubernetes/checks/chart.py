"""The chart by itself: linted, against the API server's own schemas, and its life on a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from installation import CHART, RELEASE, Site, namespace_of
from product import PROGRAMS, Suite, check, wait_for
from trial import Trial

# A field that the next version of the custom resource could have.
NEW_FIELD = "favouriteColour"


def render(site: Site) -> str:
    return site.helm("template", RELEASE, str(CHART), "--values", str(site.values))


def schemas(trial: Trial, folder: Path) -> str:
    """The API server's own schemas as files for kubeconform; returns their location."""
    document = json.loads(trial.kubectl("get", "--raw", "/openapi/v2"))
    definitions = document["definitions"]
    for definition in definitions.values():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
        _allow_numbers(definition)
    folder.mkdir()
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"].endswith(("List", "Options", "Event")):
                continue
            group = kind["group"].partition(".")[0]
            suffix = "-".join(part for part in (group, kind["version"]) if part)
            needed = _closure(definitions, name)
            schema = {"$ref": f"#/definitions/{name}", "definitions": {one: definitions[one] for one in needed}}
            (folder / f"{kind['kind'].lower()}-{suffix}.json").write_text(json.dumps(schema))
    return str(folder / "{{ .ResourceKind }}{{ .KindSuffix }}.json")


def _allow_numbers(node: object) -> None:
    """OpenAPI 2 has no word for "a number or text"."""
    if isinstance(node, dict):
        if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string"):
            node.pop("type", None)
            node["type"] = ["string", "integer"]
        for value in node.values():
            _allow_numbers(value)
    elif isinstance(node, list):
        for value in node:
            _allow_numbers(value)


def _closure(definitions: dict, name: str) -> set[str]:
    """The definitions that one is made of."""
    found, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            text = json.dumps(definitions[one])
            waiting += [part.partition('"')[0] for part in text.split('"#/definitions/')[1:]]
    return found


def static(suite: Suite, site: Site) -> None:
    """What can be said of the chart without installing it."""
    trial = site.trial
    with suite.case("chart: helm lint, strictly"):
        said = site.helm("lint", str(CHART), "--strict", "--values", str(site.values))
        check("1 chart(s) linted, 0 chart(s) failed" in said, said)
        words = ["lint", str(CHART), "--strict", "--values", str(site.values), "--set"]
        for value in ("gatePublicKey=short", "images.probe=cubicle-probe:latest", "controller.replica=2"):
            said = site.helm(*words, value, accept=(1,))
            check("[ERROR] values.yaml" in said, f"{value} was taken: {said}")

    with suite.case("chart: kubeconform, against this API server's own schemas"):
        location = schemas(trial, site.folder / "schemas")
        words = ["kubeconform", "-strict", "-summary", "-output", "json", "-schema-location", location]
        # The schema of schemas has properties called $ref and $schema, at which kubeconform stumbles.
        words += ["-skip", "CustomResourceDefinition"]
        text = render(site)
        said = json.loads(trial.exec(*words, text=text))["summary"]
        skipped = text.count("kind: CustomResourceDefinition")
        check(said["valid"] > 20 and said["invalid"] == said["errors"] == 0 and said["skipped"] == skipped, str(said))
        print(f"       {said['valid']} objects valid")
        wrong = text.replace("automountServiceAccountToken:", "automountServiceAccountTokens:", 1)
        said = json.loads(trial.exec(*words, text=wrong, accept=(1,)))["summary"]
        check(said["invalid"] == 1, f"a misspelt field was not seen: {said}")

    with suite.case("chart: its custom resources are the program's"):
        program = subprocess.run(
            [PROGRAMS / "cubicle", "controller", "crds"], capture_output=True, text=True, check=True
        ).stdout
        text = (CHART / "templates/crds.yaml").read_text()
        check(
            text.partition("---\n")[2] == program.partition("---\n")[2],
            "charts/cubicle/templates/crds.yaml is not what `cubicle controller crds` prints",
        )


def life(suite: Suite, site: Site, control: str) -> None:
    """Upgrade, roll-back, uninstall, reinstall, while a workspace runs."""
    trial = site.trial
    where = namespace_of(control)
    uid = trial.get("pod", control, "-n", where)["metadata"]["uid"]

    def goes_on() -> None:
        pod = trial.get("pod", control, "-n", where)
        check(pod["metadata"]["uid"] == uid, "the running workspace has another pod")
        started = pod["status"]["containerStatuses"][0]
        check(started["restartCount"] == 0 and "running" in started["state"], str(started))
        check(site.status(control)["state"] == "running", str(site.status(control)))
        claims = trial.get("pvc", "-n", where)["items"]
        check([claim["status"]["phase"] for claim in claims] == ["Bound"], "its home is not bound")

    def paint(value: str) -> str:
        """Writes the new field; the API server warns about fields that it does not know."""
        change = json.dumps({"spec": {NEW_FIELD: value}})
        said = trial.said("patch", "workspace", control, "--type=merge", "-p", change)
        return said + str(site.get(control)["spec"].get(NEW_FIELD))

    with suite.case("chart: the same again, server-side, as a dry run"):
        words = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"]
        said = trial.kubectl(*words, text=render(site))
        check(len(said.splitlines()) > 20, said)

    with suite.case("chart: upgrade with one more field: it is usable, the notebook goes on"):
        check("unknown field" in paint("red"), "the field was known before the upgrade")
        newer = site.folder / "newer"
        shutil.copytree(CHART, newer)
        crds = newer / "templates/crds.yaml"
        old = crds.read_text()
        before, word, after = old.partition("              launch:\n                default: 0\n")
        check(word, "the place for a new field was not found in crds.yaml")
        added = f"              {NEW_FIELD}:\n                type: string\n"
        crds.write_text(before + added + word + after)
        version = newer / "Chart.yaml"
        version.write_text(version.read_text().replace("version: 0.1.0", "version: 0.2.0", 1))
        site.helm("upgrade", RELEASE, str(newer), "--values", str(site.values), "--wait", "--timeout=120s")
        wait_for("the new field", lambda: paint("green").endswith("green"), seconds=20)
        goes_on()

    with suite.case("chart: roll-back: the field is gone, the notebook goes on"):
        site.helm("rollback", RELEASE, "1", "--wait", "--timeout=120s")
        wait_for("the field's end", lambda: "unknown field" in paint("blue"), seconds=20)
        site.ready()
        goes_on()

    with suite.case("chart: uninstall: custom resources, workspaces, homes and pods stay"):
        said = site.helm("uninstall", RELEASE, "--wait", "--timeout=120s")
        check("kept" in said and "workspaces.cubicle.dev" in said, said)
        goes_on()
        check(not trial.get("deployments", "-n", "cubicle-system")["items"], "the controller is still there")

    with suite.case("chart: reinstalled, it takes over what runs, and opens another"):
        site.helm("install", RELEASE, str(CHART), "--values", str(site.values), "--wait", "--timeout=180s")
        site.ready()
        goes_on()
