"""Cubicle installed on a cluster under test: images, keys, chart, and workspaces of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

FOLDER = Path(__file__).resolve().parents[1]
TREE = FOLDER.parents[1]
sys.path.insert(0, str(FOLDER.parent / "cluster/checks"))
from trial import Trial  # noqa: E402

import archives  # noqa: E402
from parts import program  # noqa: E402
from product import PROGRAMS, Failed, Product, check, wait_for  # noqa: E402

CHART = TREE / "charts/cubicle"
SYSTEM, RELEASE = "cubicle-system", "cubicle"
HOST = "cubicle.example"
TEMPLATE = "desk"
ENDED = ("running", "refused", "failed", "stopped")


class Images:
    """The archives that the nodes get, made once for all clusters of the part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {name: folder / f"{name}.tar" for name in ("cubicle", "desk", "probe")}
        self.cubicle = archives.platform(self.files["cubicle"], PROGRAMS / "cubicle")
        self.desk = archives.desk(self.files["desk"], Path(program("dial", "dial")))
        # By the product itself: what `cubicle image export` writes is what a site imports.
        with Product() as product:
            said = product.run("image", "export", "cubicle-probe", "--output", str(self.files["probe"]))
            self.probe = said.stdout.decode().splitlines()[-1]


class Site:
    """One installation."""

    def __init__(self, trial: Trial, images: Images) -> None:
        self.trial, self.images = trial, images
        self.folder = images.folder / trial.name
        self.folder.mkdir()
        self.made = 0
        # Whether workspaces are made before anybody asks, and claimed when they are ready.
        self.ahead = False
        for name in ("gate", "route"):
            (self.folder / name).write_text(os.urandom(32).hex())
        said = subprocess.run(
            [PROGRAMS / "cubicle", "controller", "public-key", self.folder / "gate"],
            capture_output=True,
            text=True,
            check=True,
        )
        self.public_key = said.stdout.strip()
        self.values = self.folder / "values.json"
        self.values.write_text(json.dumps(self.settings()))

    def settings(self) -> dict:
        """The chart's values."""
        return {
            "images": {"cubicle": self.images.cubicle, "probe": self.images.probe, "pullPolicy": "Never"},
            "gatePublicKey": self.public_key,
            "controller": {"replicas": 1},
            "hub": {"url": f"https://{HOST}"},
            "settings": {
                "imagePullPolicy": "Never",
                "pidsLimit": 1024,
                "images": {
                    "desk": {
                        "reference": self.images.desk,
                        # The mark shows that user code has run.
                        "command": ["/bin/sh", "-c", 'echo >"$HOME/ran"; exec /bin/dial listen -name desk 8888'],
                    }
                },
            },
        }

    # === the chart ===

    def install(self) -> None:
        """Images into the nodes, keys, chart, a template; returns when the platform is ready."""
        self.trial.command("load", self.trial.name, *(str(path) for path in self.images.files.values()))
        self.trial.kubectl("create", "namespace", SYSTEM)
        keys = [f"--from-file={name}={self.folder / name}" for name in ("gate", "route")]
        self.trial.kubectl("create", "secret", "generic", "cubicle-keys", "--namespace", SYSTEM, *keys)
        self.certificate()
        self.helm("install", RELEASE, str(CHART), "--values", str(self.values), "--wait", "--timeout=120s")
        self.ready()
        self.trial.apply(template(TEMPLATE))

    def certificate(self) -> None:
        """What the hubs answer with."""
        files = {name: str(self.folder / f"tls.{name}") for name in ("key", "crt")}
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        words += ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST},DNS:*.{HOST}"]
        made = subprocess.run(
            ["openssl", *words, "-keyout", files["key"], "-out", files["crt"]], capture_output=True, text=True
        )
        check(made.returncode == 0, made.stderr)
        pair = [f"--cert={files['crt']}", f"--key={files['key']}"]
        self.trial.kubectl("create", "secret", "tls", "cubicle-tls", "--namespace", SYSTEM, *pair)

    def helm(self, *words: str, accept: tuple[int, ...] = (0,)) -> str:
        return self.trial.exec("helm", *words, "--namespace", SYSTEM, accept=accept)

    def ready(self) -> None:
        """Waits until controller, hubs, egress proxies, canaries and references run."""
        for name in ("controller", "hub"):
            self.trial.kubectl("rollout", "status", "-n", SYSTEM, f"deployment/cubicle-{name}", "--timeout=90s")
        self.trial.kubectl("rollout", "status", "-n", "cubicle-egress", "deployment/cubicle-egress", "--timeout=90s")
        for name in ("canary", "reference"):
            self.trial.kubectl("rollout", "status", "-n", f"cubicle-{name}", f"daemonset/{name}", "--timeout=90s")

    # === workspaces ===

    def name(self) -> str:
        """The next name of a workspace; user and namespace are named after it."""
        self.made += 1
        return f"w-{self.made:0>12}"

    def create(self, template: str = TEMPLATE, owner: str = "") -> str:
        """Creates a workspace, of a user of its own unless one is given; returns its name."""
        name = self.name()
        more = {"member": True} if self.ahead else {}
        self.trial.apply(workspace(name, owner or owner_of(name), template, **more))
        return name

    @contextlib.contextmanager
    def warm(self) -> Iterator[None]:
        """Everything that is launched in it waits for its user first."""
        self.ahead = True
        try:
            yield
        finally:
            self.ahead = False

    def claim(self, member: dict, owner: str) -> str:
        """What a hub writes for a user; returns the workspace's name."""
        name = member["metadata"]["name"]
        patch = {
            "metadata": {
                "resourceVersion": member["metadata"]["resourceVersion"],
                "labels": {"cubicle.dev/pool": None, "cubicle.dev/owner": owner},
            },
            "spec": {"member": False, "owner": {"id": owner, "name": "somebody"}},
        }
        self.trial.kubectl("patch", "workspace", name, "--type=merge", "-p", json.dumps(patch))
        return name

    def get(self, name: str) -> dict:
        return self.trial.get("workspace", name)

    def status(self, name: str) -> dict:
        return self.get(name).get("status", {})

    def ended(self, name: str, seconds: float = 90.0) -> dict:
        """Waits until a launch has come out, and returns the status."""

        def state() -> dict | None:
            status = self.status(name)
            return status if status.get("state") in ENDED else None

        try:
            return wait_for(f"an end of the launch of {name}", state, seconds=seconds)
        except Failed as error:
            raise Failed(f"{error}; the status is {self.status(name)}") from None

    def launch(self, template: str = TEMPLATE, owner: str = "") -> tuple[str, dict]:
        """Creates a workspace and waits for what becomes of it."""
        name = self.create(template, owner)
        if self.ahead:

            def ready() -> dict | None:
                found = self.get(name)
                status = found.get("status", {})
                return found if status.get("readyAt") or status.get("state") in ENDED else None

            member = wait_for(f"{name} to wait for its user", ready, seconds=90)
            if member["status"]["state"] not in ENDED:
                # The one whose namespace this is, so that everything has the names that it has without the pool.
                self.claim(member, owner or owner_of(name))
        return name, self.ended(name)

    def report(self, name: str) -> dict:
        """The proof's report; empty when it never came to one."""
        found = self.trial.kubectl(
            "get", "configmap", f"report-{name}", "-n", SYSTEM, "-o", "json", "--ignore-not-found"
        )
        return json.loads(json.loads(found)["data"]["report.json"]) if found.strip() else {}

    def breached(self, name: str) -> list[str]:
        """The guarantees that the gate has seen breached."""
        return [one["id"] for one in self.report(name).get("guarantees", []) if one["verdict"] == "breached"]

    def never_opened(self, name: str) -> None:
        """Nothing of it was ever open: no route, no time of opening, and no notebook's process was started."""
        status = self.status(name)
        check(status.get("state") in ("refused", "failed"), f"it is {status.get('state')}: {status.get('reason')}")
        for field in ("route", "openedAt", "nonce"):
            check(field not in status, f"{field} is set: {status}")

    def delete(self, *names: str) -> None:
        """Deletes workspaces and waits until they and their pods are gone."""
        if names:
            self.trial.kubectl("delete", "workspace", *names, "--timeout=60s")

    def log(self) -> str:
        return self.trial.kubectl("logs", "-n", SYSTEM, "deployment/cubicle-controller", "--tail=60", accept=(0, 1))


def owner_of(workspace_name: str) -> str:
    return f"u-{workspace_name[2:]}"


def namespace_of(workspace_name: str) -> str:
    return f"cubicle-{owner_of(workspace_name)}"


def workspace(name: str, owner: str, template: str = TEMPLATE, **more) -> dict:
    return {
        "apiVersion": "cubicle.dev/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "spec": {"template": template, "owner": {"id": owner, "name": "somebody"}, **more},
    }


def template(name: str, **more) -> dict:
    spec = {
        "image": "desk",
        "resources": {"cpu": "500m", "memory": "256Mi", "ephemeralStorage": "16Mi"},
        "home": {"size": "16Mi"},
    }
    return {
        "apiVersion": "cubicle.dev/v1alpha1",
        "kind": "Template",
        "metadata": {"name": name},
        "spec": spec | more,
    }
