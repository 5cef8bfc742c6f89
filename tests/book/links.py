#!/usr/bin/env python3
"""Follows every link of the built book: pages, anchors and pictures must be there.

Usage: links.py SOURCE BOOK. Addresses of other hosts are looked at for their form alone; nothing is fetched.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What mdBook writes that is no page of ours.
NOT_OURS = {"print.html", "toc.html", "404.html"}
# A page is left out of SUMMARY.md only for a reason.
NOT_IN_SUMMARY = {"SUMMARY.md": "the table of contents itself"}
# Fewer would mean that the links were not found, not that there are none.
LEAST_LINKS = 100


class Page(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[tuple[int, str, str]] = []
        self.anchors: set[str] = set()
        self.twice: set[str] = set()
        self.undescribed: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        anchor = given.get("id") or (given.get("name") if tag == "a" else None)
        if anchor:
            (self.twice if anchor in self.anchors else self.anchors).add(anchor)
        if tag == "img" and not (given.get("alt") or "").strip():
            self.undescribed.append(self.getpos()[0])
        for name in ("href", "src"):
            if given.get(name) and tag not in ("link", "script"):
                self.links.append((self.getpos()[0], tag, given[name]))


def fault_of_address(address: str) -> str | None:
    """What is wrong with the address of another host."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 # asking for it checks it
    except ValueError as error:
        return str(error)
    if parts.scheme == "mailto":
        return None if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", parts.path) else "is no address of mail"
    if parts.scheme not in ("http", "https"):
        return f"has the scheme {parts.scheme}"
    if not parts.hostname or re.search(r"[\s<>\"]", address):
        return "names no host, or holds white space"
    return None


def main() -> int:
    source, book = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    pages = {
        path: Page(path.read_text())
        for path in book.rglob("*.html")
        if path.relative_to(book).as_posix() not in NOT_OURS
    }
    faults, inside, outside = [], 0, 0
    for path, page in sorted(pages.items()):
        name = path.relative_to(book).as_posix()
        faults += [f"{name}: two places are called #{anchor}" for anchor in sorted(page.twice)]
        faults += [f"{name}:{line}: a picture without a description" for line in page.undescribed]
        for line, tag, link in page.links:
            place = f"{name}:{line}: <{tag}> {link}"
            if urlsplit(link).scheme or link.startswith("//"):
                outside += 1
                fault = fault_of_address(link)
                if fault:
                    faults.append(f"{place}: {fault}")
                continue
            inside += 1
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_relative_to(book):
                faults.append(f"{place}: leads out of the book")
            elif not target.is_file():
                faults.append(f"{place}: there is no such page or file")
            elif target.suffix == ".md":
                faults.append(f"{place}: a page of the book that SUMMARY.md does not name")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                faults.append(f"{place}: there is no such place on that page")

    built = {path.relative_to(book).with_suffix(".md").as_posix() for path in pages}
    for written in sorted(path.relative_to(source).as_posix() for path in source.rglob("*.md")):
        if written not in built and written not in NOT_IN_SUMMARY:
            faults.append(f"docs/{written}: is not in SUMMARY.md, so nobody finds it")
    if inside < LEAST_LINKS:
        faults.append(f"only {inside} links inside the book were found")
    for fault in faults:
        print(f"error: {fault}")
    print(f"{len(pages)} pages, {inside} links inside, {outside} addresses outside (form only), {len(faults)} faults")
    return 1 if faults else 0


sys.exit(main())
