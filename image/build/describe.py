"""Names a finished root by its content and describes it.

usage: describe.py ROOT NAME INPUTS OUTPUT

The digest is the SHA-256 of one line per entry, sorted by path: path, type, mode, owner, group,
size, SHA-256 of the content or target of the link. Times do not count. The description goes to
OUTPUT as JSON, the digest to standard output.
"""

import datetime
import email.parser
import hashlib
import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMMAND = ["/usr/bin/python3", "-I", "-X", "frozen_modules=on", "/usr/local/lib/cubicle/launch.py"]


def entries(root: bytes) -> list[bytes]:
    """Every path below the root, relative, sorted."""
    found = [b"."]
    for top, directories, files in os.walk(root):
        found.extend(os.path.relpath(os.path.join(top, name), root) for name in directories + files)
    return sorted(found)


def line(root: bytes, path: bytes) -> tuple[bytes, int, tuple[int, int]]:
    """The entry's line, its size in bytes on disk, and its identity (a hard link counts once)."""
    full = os.path.join(root, path)
    info = os.lstat(full)
    kind, size, content = "other", 0, ""
    if stat.S_ISREG(info.st_mode):
        with open(full, "rb") as file:
            kind, size, content = "file", info.st_size, hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(info.st_mode):
        kind, content = "link", os.readlink(full).hex()
    elif stat.S_ISDIR(info.st_mode):
        kind = "directory"
    else:
        sys.exit(f"describe.py: {full!r} is neither file, directory nor link; an image may hold nothing else")
    mode = format(stat.S_IMODE(info.st_mode), "04o")
    # The path in hex: no byte of it can be taken for a separator.
    text = f"{path.hex()} {kind} {mode} {info.st_uid} {info.st_gid} {size} {content}\n"
    return text.encode("ascii"), info.st_blocks * 512, (info.st_dev, info.st_ino)


def debian_packages(root: Path) -> list[dict[str, str]]:
    """What dpkg says is installed."""
    packages = []
    for paragraph in (root / "var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields = dict(
            field.split(": ", 1) for field in paragraph.splitlines() if ": " in field and not field.startswith(" ")
        )
        if fields.get("Status") == "install ok installed":
            packages.append({"type": "deb", "name": fields["Package"], "version": fields["Version"]})
    return packages


def python_packages(root: Path) -> list[dict[str, str]]:
    """What pip installed, from the packages' own metadata."""
    packages = []
    for metadata in root.glob("usr/local/lib/python3*/dist-packages/*.dist-info/METADATA"):
        with open(metadata, encoding="utf-8") as file:
            headers = email.parser.Parser().parse(file, headersonly=True)
        packages.append({"type": "pypi", "name": headers["Name"], "version": headers["Version"]})
    return packages


def main() -> None:
    root, name, inputs, output = sys.argv[1:]
    digest, size, seen = hashlib.sha256(), 0, set()
    with ThreadPoolExecutor() as pool:
        top = os.fsencode(root)
        for text, blocks, identity in pool.map(lambda path: line(top, path), entries(top), chunksize=64):
            digest.update(text)
            size += 0 if identity in seen else blocks
            seen.add(identity)
    packages = debian_packages(Path(root)) + python_packages(Path(root))
    description = {
        "digest": f"sha256:{digest.hexdigest()}",
        "name": name,
        "command": COMMAND,
        # The command waits for its home when CUBICLE_HOME_LATER=1 says so.
        "home_later": True,
        "created_at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "inputs": inputs,
        "packages": sorted(packages, key=lambda package: (package["type"], package["name"].lower())),
        "size": size,
    }
    Path(output).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    print(digest.hexdigest())


if __name__ == "__main__":
    main()
