"""NetworkPolicies (networking.k8s.io/v1) as one nftables table."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Pod:
    """What a policy can ask of a pod."""

    address: str
    namespace: str
    labels: dict[str, str]
    # Named ports of its containers: (name, protocol) -> number.
    ports: dict[tuple[str, str], int] = field(default_factory=dict)
    # Whether this pod's own policies are in force; peers are known at once.
    walled: bool = True

    @staticmethod
    def of(item: dict, walled: bool) -> Pod:
        named = {}
        for container in item["spec"].get("containers", []) + (item["spec"].get("initContainers") or []):
            for port in container.get("ports") or []:
                if port.get("name"):
                    named[port["name"], port.get("protocol", "TCP")] = port["containerPort"]
        data = item["metadata"]
        return Pod(item["status"]["podIP"], data["namespace"], data.get("labels") or {}, named, walled)


def matches(selector: dict, labels: dict[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        value, operator = labels.get(term["key"]), term["operator"]
        holds = {
            "In": value is not None and value in (term.get("values") or []),
            "NotIn": value is None or value not in (term.get("values") or []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[operator]
        if not holds:
            return False
    return True


def _types(policy: dict) -> list[str]:
    return policy["spec"].get("policyTypes") or ["Ingress", *(["Egress"] if policy["spec"].get("egress") else [])]


def _peer_addresses(peer: dict, policy: dict, pods: list[Pod], namespaces: dict) -> tuple[list[str], list[str]]:
    """The addresses of a peer and those excepted from them."""
    if "ipBlock" in peer:
        ranges = [[peer["ipBlock"]["cidr"]], peer["ipBlock"].get("except") or []]
        # Pods have IPv4 only.
        allowed, excepted = ([each for each in some if ":" not in each] for some in ranges)
        return allowed, excepted
    found = []
    for pod in pods:
        if "namespaceSelector" in peer:
            inside = matches(peer["namespaceSelector"] or {}, namespaces.get(pod.namespace, {}))
        else:
            inside = pod.namespace == policy["metadata"]["namespace"]
        if inside and matches(peer.get("podSelector") or {}, pod.labels):
            found.append(pod.address)
    return found, []


def _port_matches(rule: dict, targets: list[Pod]) -> list[str]:
    """Matches for the rule's ports; a named one is looked up in the pods that are the target."""
    if not rule.get("ports"):
        return [""]
    lines = []
    for port in rule["ports"]:
        protocol, number = port.get("protocol", "TCP"), port.get("port")
        word = protocol.lower()
        if number is None:
            lines.append(f"meta l4proto {word} ")
        elif isinstance(number, int):
            lines.append(f"{word} dport {number}-{port['endPort']} " if "endPort" in port else f"{word} dport {number} ")
        else:
            for target in targets:
                if (number, protocol) in target.ports:
                    lines.append(f"ip daddr {target.address} {word} dport {target.ports[number, protocol]} ")
    return lines


def _direction(pod: Pod, direction: str, pods: list[Pod], namespaces: dict, policies: list[dict]) -> list[str] | None:
    """The rules of a chain for one pod and direction; None when no policy selects it."""
    key, peers, address = ("ingress", "from", "saddr") if direction == "Ingress" else ("egress", "to", "daddr")
    lines, selected = [], False
    for policy in policies:
        inside = policy["metadata"]["namespace"] == pod.namespace and direction in _types(policy)
        if not inside or not matches(policy["spec"].get("podSelector") or {}, pod.labels):
            continue
        selected = True
        for rule in policy["spec"].get(key) or []:
            for ports in _port_matches(rule, [pod] if direction == "Ingress" else pods):
                if not rule.get(peers):
                    lines.append(f"{ports}return")
                for peer in rule.get(peers) or []:
                    allowed, excepted = _peer_addresses(peer, policy, pods, namespaces)
                    if allowed:
                        # Not a set: ranges may overlap.
                        without = "".join(f"ip {address} != {each} " for each in excepted)
                        lines.append(f"ip {address} {{ {', '.join(sorted(allowed))} }} {without}{ports}return")
    return [*lines, "drop"] if selected else None


def ruleset(pods: list[Pod], namespaces: dict[str, dict], policies: list[dict], closed: str = "") -> str:
    """The whole table, replaced at once. `namespaces` holds the labels of each.

    In the range `closed` nobody gets anywhere before he is one of `pods`.
    """
    chains, forward, local = [], [], []
    for number, pod in enumerate(sorted(pods, key=lambda each: each.address)):
        if not pod.walled:
            continue
        for direction, match in (("Egress", "saddr"), ("Ingress", "daddr")):
            lines = _direction(pod, direction, pods, namespaces, policies)
            if lines is None:
                continue
            name = f"{direction.lower()}-{number}"
            chains.append(f"chain {name} {{\n" + "\n".join(lines) + "\n}")
            forward.append(f"ip {match} {pod.address} jump {name}")
            if direction == "Egress":
                # The node's own addresses: API server, kubelet.
                local.append(f"ip {match} {pod.address} jump {name}")
    if closed:
        addresses = ", ".join(sorted(pod.address for pod in pods))
        unknown = f"ip saddr {closed} {f'ip saddr != {{ {addresses} }} ' if addresses else ''}drop"
        forward.append(unknown)
        local.append(unknown)
    known = "ct state established,related accept"
    return "\n".join(
        [
            "add table ip weak",
            "delete table ip weak",
            "table ip weak {",
            *chains,
            f"chain forward {{\ntype filter hook forward priority 0; policy accept;\n{known}",
            *forward,
            "}",
            f"chain local {{\ntype filter hook input priority 0; policy accept;\n{known}",
            *local,
            "}",
            "}",
            "",
        ]
    )
