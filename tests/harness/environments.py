"""Python programs from PyPI that tests use, each set in an environment of its own below CUBICLE_CACHE."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("CUBICLE_CACHE", "/var/cache/cubicle"))


def environment(requirements: Path) -> Path:
    """The folder with the programs of an environment that has exactly these packages; made when it is not there."""
    wanted = requirements.read_bytes()
    folder = CACHE / "tools" / f"python-{hashlib.sha256(wanted).hexdigest()[:16]}"
    # Written last: an installation that was interrupted is made again.
    done = folder / "complete"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [folder / "bin/pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(install, check=True)
        done.write_bytes(wanted)
    return folder / "bin"
