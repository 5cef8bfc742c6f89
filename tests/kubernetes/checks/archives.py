"""Images of the test's own, as OCI archives whose name is their digest."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")


def libraries(program: Path) -> list[Path]:
    """The C library and whatever else a program is linked with, and its loader."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True)
    if said.returncode != 0:
        return []  # linked statically
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", said.stdout)]


def layer(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    """An archive of these files; without times and owners, so that its digest is stable."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        folders = {str(folder) for name in [*files, *links] for folder in Path(name).parents if str(folder) != "."}
        for folder in sorted(folders | {"tmp", "proc", "sys", "dev", "etc"}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target in sorted(links.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return content.getvalue()


def write(path: Path, name: str, content: bytes) -> str:
    """Writes an image of one layer (OCI image-spec 1.1); returns its name with its digest."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(content)]},
    }
    blobs = [content, json.dumps(config).encode()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", blobs[1]),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", content)],
    }
    blobs.append(json.dumps(manifest).encode())
    reference = f"{name}@{_digest(blobs[2])}"
    described = _descriptor(manifest["mediaType"], blobs[2]) | {
        "annotations": {"io.containerd.image.name": reference}
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [described]}
    with tarfile.open(path, "w") as archive:
        entries = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
        entries |= {f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in blobs}
        for entry_name, data in entries.items():
            entry = tarfile.TarInfo(entry_name)
            entry.mode, entry.size = 0o644, len(data)
            archive.addfile(entry, io.BytesIO(data))
    return reference


def platform(path: Path, program: Path) -> str:
    """The image that the chart runs: `cubicle`, and the libraries that it is linked with."""
    files = {"usr/local/bin/cubicle": program.read_bytes()}
    for library in libraries(program):
        files[str(library).lstrip("/")] = library.read_bytes()
    return write(path, "cubicle.test/cubicle", layer(files, {}))


def desk(path: Path, dial: Path) -> str:
    """What a tenant gets where JupyterLab would only cost time: a shell, and a server on its port."""
    names = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    files = {"bin/dial": dial.read_bytes(), "bin/busybox": BUSYBOX.read_bytes()}
    links = {f"bin/{name}": "busybox" for name in set(names) - {"busybox"}}
    files["etc/passwd"] = b"root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n"
    return write(path, "cubicle.test/desk", layer(files, links))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(kind: str, content: bytes) -> dict:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}
