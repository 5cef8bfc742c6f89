"""A runtime that does not do what the pod says: every container gets the machine's user namespace.

It is a test double of runtimes and nodes without user namespaces that take `hostUsers: false` and go on.
Called like runc: careless_runtime.py RUNC ARGUMENTS...
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

MAPPINGS = ("uidMappings", "gidMappings")


def without_user_namespace(config: dict) -> dict:
    """The OCI configuration as it would be with `hostUsers: true`."""
    linux = config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "user"]
    for name in MAPPINGS:
        linux.pop(name, None)
    for mount in config.get("mounts", []):
        for name in MAPPINGS:
            mount.pop(name, None)
        mount["options"] = [word for word in mount.get("options", []) if word not in ("idmap", "ridmap")]
    return config


def main() -> None:
    runc, *arguments = sys.argv[1:]
    if "create" in arguments and "--bundle" in arguments:
        path = Path(arguments[arguments.index("--bundle") + 1]) / "config.json"
        path.write_text(json.dumps(without_user_namespace(json.loads(path.read_text()))))
    os.execv(runc, [runc, *arguments])


if __name__ == "__main__":
    main()
