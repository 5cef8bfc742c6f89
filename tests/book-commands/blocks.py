"""Reads what a page of the book tells its reader to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

# Languages of blocks that a reader would type in.
SHELLS = {"console", "sh", "bash", "shell"}
FENCE = re.compile(r"^( *)(`{3,})(\w*)\s*$")
COMMENT = re.compile(r"^ *<!-- (file|not run|needs|unseen): (.+?) -->$")


class Mistake(Exception):
    """A page that cannot be run as it is written."""


@dataclass
class Step:
    """A file to write, or a command with what it prints."""

    line: int
    command: str = ""
    expected: list[str] = field(default_factory=list)
    file: str = ""
    content: str = ""


@dataclass
class Page:
    """What one page asks for, in order."""

    steps: list[Step] = field(default_factory=list)
    left_out: list[tuple[int, str]] = field(default_factory=list)
    needs: str = "product"


def read(path: Path) -> Page:
    """The steps of a page. A block that a reader would type in must run, or say why it does not."""
    page, told, lines = Page(), None, path.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        comment, fence = COMMENT.match(line), FENCE.match(line)
        if comment:
            told = comment.groups()
            if told[0] == "needs":
                page.needs, told = told[1], None
            elif told[0] == "unseen":
                # What the reader does elsewhere, in a browser for example.
                page.steps.append(Step(at, command=told[1]))
                told = None
            continue
        if not fence:
            told = told if not line.strip() else None
            continue
        begin, body = at, []
        while at < len(lines) and lines[at].strip() != fence[2]:
            body.append(lines[at].removeprefix(fence[1]))
            at += 1
        if at == len(lines):
            raise Mistake(f"{path}:{begin}: a block without an end")
        at += 1
        if told and told[0] == "file":
            page.steps.append(Step(begin, file=told[1], content="\n".join(body) + "\n"))
        elif told:
            page.left_out.append((begin, told[1]))
        elif fence[3] == "console":
            page.steps += commands(path, begin, body)
        elif fence[3] in SHELLS:
            raise Mistake(f"{path}:{begin}: a block in {fence[3]} neither runs nor says why (console, or <!-- not run: ... -->)")
        told = None
    return page


def commands(path: Path, begin: int, body: list[str]) -> list[Step]:
    """`$ ` begins a command, a backslash at its end continues it, and all else is what it prints."""
    steps: list[Step] = []
    continues = False
    for number, line in enumerate(body, begin + 1):
        if continues:
            steps[-1].command += "\n" + line
        elif line.startswith("$ "):
            steps.append(Step(number, command=line[2:]))
        elif steps:
            steps[-1].expected.append(line)
            continue
        else:
            raise Mistake(f"{path}:{number}: output before a command")
        continues = line.endswith("\\")
    if not steps:
        raise Mistake(f"{path}:{begin}: a console block without a command")
    return steps


def agrees(expected: list[str], output: str) -> bool:
    """Whether output is what a page shows. `...` stands for any text in a line, alone for any lines."""
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("...")) + "\n"
    printed = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
    return re.fullmatch(pattern, printed) is not None
