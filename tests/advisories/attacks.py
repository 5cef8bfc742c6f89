#!/usr/bin/env python3
"""One attack for each advisory about JupyterHub and what people put beside it, tried here.

    attacks.py NODE...      how Node is called

Where nothing may happen, a control shows that the same request with the right belongings does happen. What cannot be
tried from outside is held by a test of a crate, which is named and must be there. TEST_RESULTS/advisories.md is the
table.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from scene import Scene, check

from product import SOURCE, Suite


@dataclass
class Attack:
    """An advisory, and what is tried."""

    ids: str
    # What was possible there.
    was: str
    # What is tried here.
    tried: str
    # What must come of it.
    must: str
    attempt: Callable[[Scene], None]
    # Tests of crates that try what cannot be tried from outside, as `path::test`.
    also: tuple[str, ...] = ()


def main() -> None:
    import identities
    import names
    import web

    attacks: list[Attack] = [*web.ATTACKS, *names.ATTACKS, *identities.ATTACKS]
    suite = Suite()
    with Scene(sys.argv[1:]) as scene:
        for attack in attacks:
            with suite.case(f"{attack.ids}: {attack.tried}"):
                attack.attempt(scene)
                for test in attack.also:
                    path, name = test.rsplit("::", 1)
                    check(f"fn {name}(" in Path(SOURCE, path).read_text(), f"{test} is not there")
    if folder := os.environ.get("TEST_RESULTS"):
        rows = [f"| {a.ids} | {a.was} | {a.tried} | {a.must} | {', '.join(a.also)} |" for a in attacks]
        head = ["| advisory | what it was | what is tried | what must happen | held besides by |", "|---|---|---|---|---|"]
        Path(folder, "advisories.md").write_text("\n".join([*head, *rows, ""]))
    suite.finish()


if __name__ == "__main__":
    # The other files take Attack from this one by its name.
    sys.modules["attacks"] = sys.modules["__main__"]
    main()
