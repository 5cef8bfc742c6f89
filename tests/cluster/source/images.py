"""Writes the images of a test cluster as OCI archives (image-spec 1.1), without a registry."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from layout import DNS_IMAGE, TOOLS_IMAGE
from parts import Problem, program

BUSYBOX = Path("/bin/busybox")


def _add(archive: tarfile.TarFile, name: str, content: bytes | None = None, mode: int = 0o755, link: str = "") -> None:
    """Adds a file, a link, or (without content) a folder; no time and no owner, so digests are stable."""
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if link:
        entry.type, entry.linkname = tarfile.SYMTYPE, link
    elif content is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content) if content is not None else None)


def _tools_layer() -> bytes:
    if not BUSYBOX.exists():
        raise Problem(f"{BUSYBOX} is missing; install the Debian package busybox-static")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("proc", 0o755), ("sys", 0o755)):
            _add(archive, folder, mode=mode)
        _add(archive, "bin/dial", Path(program("dial", "dial")).read_bytes())
        _add(archive, "bin/busybox", BUSYBOX.read_bytes())
        names = subprocess.run([str(BUSYBOX), "--list"], check=True, capture_output=True, text=True).stdout.split()
        for name in sorted(set(names) - {"busybox"}):
            _add(archive, f"bin/{name}", link="busybox")
        accounts = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
        _add(archive, "etc/passwd", accounts, mode=0o644)
        _add(archive, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", mode=0o644)
    return layer.getvalue()


def _dns_layer() -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        _add(archive, "coredns", Path(program("coredns", "coredns")).read_bytes())
    return layer.getvalue()


def write(path: Path, image: str) -> None:
    """Writes one of the cluster's own images."""
    if image == TOOLS_IMAGE:
        _write_archive(path, image, _tools_layer(), ["/bin/dial"], ["pause"])
    elif image == DNS_IMAGE:
        _write_archive(path, image, _dns_layer(), ["/coredns"], [])
    else:
        raise Problem(f"there is no recipe for the image {image!r}")


def _write_archive(path: Path, image: str, layer: bytes, entrypoint: list[str], arguments: list[str]) -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": entrypoint, "Cmd": arguments},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": "tests/cluster"}],
    }
    blobs = [layer, json.dumps(config).encode()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", blobs[1]),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    }
    blobs.append(json.dumps(manifest).encode())
    names = {"io.containerd.image.name": image, "org.opencontainers.image.ref.name": image.rpartition(":")[2]}
    described = _descriptor(manifest["mediaType"], blobs[2]) | {"annotations": names}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    }
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', mode=0o644)
        _add(archive, "index.json", json.dumps(index).encode(), mode=0o644)
        for blob in blobs:
            _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob, mode=0o644)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(kind: str, content: bytes) -> dict:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}
