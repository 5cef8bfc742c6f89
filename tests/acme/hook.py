#!/usr/bin/python3
"""The hook of this test: notes how it was called, and writes into the test's own DNS as the file `mode` beside it says.

Beside it are `dns`, the address that the DNS is told records at, and `calls`, a line of JSON for each call.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent


def customers() -> list[dict]:
    """The processes that speak with an authority now: what the kernel says of their rights, and their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"internal-acme" in (entry / "cmdline").read_bytes():
                status = dict(line.split(":\t", 1) for line in (entry / "status").read_text().splitlines() if ":\t" in line)
                files = [os.readlink(descriptor) for descriptor in (entry / "fd").iterdir()]
                found.append({"status": status, "environment": (entry / "environ").read_bytes().decode(), "files": files})
        except OSError:
            continue
    return found


def main() -> None:
    action, name, value = sys.argv[1:4]
    mode = (HERE / "mode").read_text()
    call = {"arguments": sys.argv[1:], "uid": os.getuid(), "environment": dict(os.environ), "folder": os.getcwd(), "mode": mode,
            "parent": Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0"), "customers": customers()}
    with open(HERE / "calls", "a") as calls:
        calls.write(json.dumps(call) + "\n")
    if action == "present" and mode == "fails":
        sys.stderr.write("the zone is locked\x1b[2J by alice\n" + "x" * 100_000)
        sys.exit(7)
    if action == "cleanup" and mode == "keeps":
        sys.exit(9)
    if action == "present" and mode == "hangs":
        subprocess.Popen(["/bin/sleep", "4242"])
        time.sleep(4242)
    if action == "present" and mode == "lies":
        return
    place, record = ("set-txt", {"host": name + ".", "value": value}) if action == "present" else ("clear-txt", {"host": name + "."})
    request = urllib.request.Request(f"{(HERE / 'dns').read_text()}/{place}", json.dumps(record).encode())
    urllib.request.urlopen(request, timeout=5).read()


if __name__ == "__main__":
    main()
