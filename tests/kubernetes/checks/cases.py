"""What could take the walls away, each made so in two ways: with the admission policies bound, and without.

With them, what can be refused is refused by name. Without them the gate is red, no user code runs, and the
workspace never opens.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

from layout import NODES, Cluster
from product import Failed, check, wait_for
from installation import Site, namespace_of
from trial import DENY_ALL, client, namespace, policy
from webhook import Webhook

POLICIES = ("cubicle-workspace-pods", "cubicle-tenant-walls", "cubicle-tenant-namespaces")


class Bench:
    """A site with its switches: bindings, webhook, enforcer."""

    def __init__(self, site: Site, webhook: Webhook) -> None:
        self.site, self.webhook, self.trial = site, webhook, site.trial
        self.bindings = [self._binding(name) for name in POLICIES]
        # Untouched, and running all the time: its namespace is where an administrator meddles.
        self.control = ""

    def _binding(self, name: str) -> dict:
        found = self.trial.get("validatingadmissionpolicybinding", name)
        for word in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
            found["metadata"].pop(word, None)
        return found

    @contextlib.contextmanager
    def unbound(self) -> Iterator[None]:
        """Without the bindings; they are back afterwards, and in force."""
        self.trial.kubectl("delete", "validatingadmissionpolicybinding", *POLICIES)
        self._until_in_force(False)
        try:
            yield
        finally:
            # As the chart's own, or the next upgrade finds somebody else's fields.
            words = ["apply", "--server-side", "--field-manager=helm", "-f", "-"]
            listed = {"apiVersion": "v1", "kind": "List", "items": self.bindings}
            self.trial.kubectl(*words, text=json.dumps(listed))
            self._until_in_force(True)

    def _until_in_force(self, wanted: bool) -> None:
        where = namespace_of(self.control)
        bare = client(where, "bare", "")
        container = bare["spec"]["containers"][0]
        container["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for thing, rule in ((bare, "cubicle/"), (policy(where, "bare", DENY_ALL), "cubicle/requester")):

            def settled() -> bool:
                return (rule in self.tried(thing)) == wanted

            wait_for(f"the admission policies to be {'in' if wanted else 'out of'} force", settled, seconds=20)

    def tried(self, thing: dict) -> str:
        """What the API server says to an administrator who wants this; nothing is made."""
        return self.trial.said("create", "--dry-run=server", "-f", "-", text=json.dumps(thing))

    def enforcer_follows(self) -> None:
        """Waits until a new policy is in force on every node.

        Cilium's agents take a while to watch again after an API server was away, and until then new pods are
        open: the gate refuses them, so that nothing would open here.
        """
        where, target = "follows", "192.168.61.1:6443"
        names = [f"on-{node}" for node in NODES]
        self.trial.apply(namespace(where), *(client(where, name, node) for name, node in zip(names, NODES)))
        self.trial.wait_ready(where, *names)
        for name in names:
            self.trial.settles("an open pod", where, name, {target: "open"}, seconds=90)
        self.trial.apply(policy(where, "deny", DENY_ALL))
        for name in names:
            self.trial.settles("a closed pod", where, name, {target: "timeout"}, seconds=90)
        self.trial.kubectl("delete", "namespace", where)

    # === what a launch has come to ===

    def marks(self, name: str) -> list[str]:
        """The files that the notebook of this workspace's owner has left in its home."""
        cluster = Cluster(self.trial.name)
        homes = [
            home
            for node in NODES
            for home in Path(cluster.node_folder(node), "volumes").glob(f"pvc-*_{namespace_of(name)}_*")
        ]
        return [path.name for home in homes for path in home.iterdir()]

    def stays_shut(self, name: str, needle: str) -> str:
        """The launch was refused for this reason, and no user code has run; returns the reason in short."""
        status = self.site.ended(name)
        reason = status.get("reason", "")
        self.site.never_opened(name)
        check("ran" not in self.marks(name), f"user code has run: {self.marks(name)}")
        breached = self.site.breached(name)
        check(
            needle in breached or (not breached and needle in reason),
            f"expected {needle}; the state is {status.get('state')}: {reason}; breached: {breached}",
        )
        return needle

    def opens(self) -> str:
        """The untouched case; returns the workspace.

        On a machine that is too busy for its own controls a proof is unproven; that is tried again, and said.
        """
        for _ in range(3):
            name, status = self.site.launch()
            if status.get("state") == "running":
                check("ran" in self.marks(name), f"the notebook's mark is missing: {self.marks(name)}")
                return name
            bad = [
                one
                for one in self.site.report(name).get("guarantees", [])
                if one["verdict"] in ("breached", "unproven")
            ]
            said = f"the untouched case is {status.get('state')}: {status.get('reason')}"
            slow = [one for one in bad if "the control took" in one["reason"]]
            if not bad or slow != bad:
                raise Failed(f"{said}; {[(one['id'], one['verdict'], one['reason']) for one in bad]}")
            print(f"       once more: {said}", flush=True)
            self.site.delete(name)
        raise Failed(said)


@dataclass
class Case:
    """One way to take a wall away."""

    name: str
    # The guarantee that the gate sees breached, or the field of the admitted pod that was changed.
    gate: str
    # The rule that refuses it at admission; empty when admission cannot see it.
    rule: str = ""
    # Around a launch.
    around: Callable[[Bench], contextlib.AbstractContextManager] = lambda _: contextlib.nullcontext()
    # What an administrator does in this namespace, before the pod has started: commands of kubectl.
    meddle: Callable[[Bench, str], list[tuple[list[str], dict | None]]] | None = None
    # What the webhook does to objects of these kinds.
    patches: dict[str, list[dict]] = field(default_factory=dict)

    def bound(self, bench: Bench) -> str:
        """With the admission policies: the name of the rule that refused it, or what the gate said."""
        if self.meddle is not None:
            return self._refused(bench)
        with self.in_place(bench):
            name = bench.site.create()
            if not self.rule:
                return f"not seen; gate: {bench.stays_shut(name, self.gate)}"
            status = bench.site.ended(name)
        bench.site.never_opened(name)
        check(self.rule in status.get("reason", ""), f"expected {self.rule}: {status}")
        return self.rule

    def _refused(self, bench: Bench) -> str:
        for words, thing in self.meddle(bench, namespace_of(bench.control)):
            said = _kubectl(bench, words, thing)
            check(self.rule in said, f"`kubectl {' '.join(words)}` said {said!r} instead of {self.rule}")
        return self.rule

    def unbound(self, bench: Bench) -> str:
        """Without them: what the gate has seen."""
        with self.in_place(bench):
            if self.meddle is None:
                return bench.stays_shut(bench.site.create(), self.gate)
            # The walls stand and the pod waits for a node: now somebody meddles, then it starts.
            bench.trial.kubectl("cordon", *NODES)
            try:
                name = bench.site.create()
                where = namespace_of(name)

                def waits() -> str:
                    found = bench.trial.kubectl("get", "pod", name, "-n", where, "-o", "name", accept=(0, 1))
                    return found.strip()

                wait_for(f"the pod of {name}", waits, seconds=30)
                for words, thing in self.meddle(bench, where):
                    said = _kubectl(bench, words, thing, accept=(0,))
                    check("cubicle/" not in said, said)
            finally:
                bench.trial.kubectl("uncordon", *NODES)
            return bench.stays_shut(name, self.gate)

    @contextlib.contextmanager
    def in_place(self, bench: Bench) -> Iterator[None]:
        """With the webhook's patches and what stands around, while it lasts."""
        bench.webhook.patch(self.patches)
        try:
            with self.around(bench):
                yield
        finally:
            bench.webhook.patch({})


def _kubectl(bench: Bench, words: list[str], thing: dict | None, accept: tuple[int, ...] = (1,)) -> str:
    return bench.trial.said(*words, text=json.dumps(thing) if thing is not None else "", accept=accept)
