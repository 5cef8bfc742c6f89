"""Builds the programs of a cluster from their Go modules and keeps them in the cache.

Every part is a Go module of its own in `parts/`, because their dependencies disagree. A part is kept
under a digest of its module and of its recipe here, so that a change rebuilds that part alone. Go's own
build and module caches live below the cache folder too and are removed once every part is there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "parts"
KUBERNETES_VERSION = "v1.37.2"
CILIUM_VERSION = "1.19.4"
# Unused builds are removed after this time; no test cluster lives that long (its certificates do not).
KEPT_DAYS = 14


class Problem(Exception):
    """Something that the caller has to be told: what was wrong and what to do."""


@dataclass(frozen=True)
class Part:
    """A Go module in `parts/` and how its programs are linked."""

    name: str
    # Program name -> package; "." is the module itself.
    programs: dict[str, str]
    tags: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    cgo: bool = False
    # Further names for the first program, which looks at the name it is called by.
    links: tuple[str, ...] = ()
    # Folders of a dependency that are needed at run time: module -> folder in it -> name here.
    folders: dict[str, dict[str, str]] = field(default_factory=dict)

    def digest(self) -> str:
        """What the built files depend on, apart from the Go release."""
        recipe = [self.name, sorted(self.programs.items()), self.tags, sorted(self.variables.items())]
        recipe += [self.cgo, self.links, sorted(self.folders.items())]
        total = hashlib.sha256(json.dumps(recipe).encode())
        for path in sorted((FOLDER / self.name).iterdir()):
            total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            total.update(path.read_bytes())
        return total.hexdigest()[:16]

    def built(self) -> Path:
        """Where the built files are, or will be."""
        return cache() / f"{self.name}-{self.digest()}"


_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_PLUGINS = "github.com/containernetworking/plugins/plugins"
_PEBBLE = "github.com/letsencrypt/pebble/v2/cmd"
_CILIUM = "github.com/cilium/cilium"
_CRDS = "pkg/k8s/apis/cilium.io/client/crds"

# In the order of building: what a first cluster needs comes first, the longest last.
PARTS = [
    Part(
        "kubernetes",
        {"kubernetes": "."},
        tags="grpcnotrace",
        variables={
            f"k8s.io/{library}.{name}": value
            for library in ("component-base/version", "client-go/pkg/version")
            for name, value in (("gitVersion", KUBERNETES_VERSION), ("gitMajor", "1"), ("gitMinor", "37"))
        },
        links=(
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        ),
    ),
    Part("runc", {"runc": "github.com/opencontainers/runc"}, tags="seccomp", cgo=True),
    Part(
        "cni",
        {
            "loopback": f"{_PLUGINS}/main/loopback",
            "ptp": f"{_PLUGINS}/main/ptp",
            "host-local": f"{_PLUGINS}/ipam/host-local",
            "portmap": f"{_PLUGINS}/meta/portmap",
        },
    ),
    Part("dial", {"dial": "."}),
    Part(
        "containerd",
        {name: f"{_CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        tags="no_btrfs no_devmapper no_zfs no_tracing",
    ),
    Part("coredns", {"coredns": "."}, tags="grpcnotrace"),
    Part("local-path", {"local-path-provisioner": "github.com/rancher/local-path-provisioner"}),
    Part("kubeconform", {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"}),
    Part("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Part("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    # Not of a cluster: an authority of certificates that speaks ACME, and its DNS (tests/acme).
    Part("pebble", {name: f"{_PEBBLE}/{name}" for name in ("pebble", "pebble-challtestsrv")}),
    Part(
        "cilium",
        {"cilium-agent": f"{_CILIUM}/daemon", "cilium-cni": f"{_CILIUM}/plugins/cilium-cni"},
        variables={f"{_CILIUM}/pkg/version.ciliumVersion": f"{CILIUM_VERSION} cubicle"},
        folders={_CILIUM: {"bpf": "bpf", f"{_CRDS}/v2": "crds/v2", f"{_CRDS}/v2alpha1": "crds/v2alpha1"}},
    ),
]
BY_NAME = {part.name: part for part in PARTS}


def cache() -> Path:
    """Where built parts are kept."""
    return Path(os.environ.get("CUBICLE_CACHE", "/var/cache/cubicle")) / "cluster"


def program(part: str, name: str) -> str:
    """The path of a built program."""
    path = BY_NAME[part].built() / name
    if not path.exists():
        raise Problem(f"{name} is not built; `cluster build {part}` builds it")
    return str(path)


@contextmanager
def _lock():
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(names: list[str], say=print) -> dict[str, float]:
    """Builds what is missing of these parts; returns the seconds that each took."""
    for name in names:
        if name not in BY_NAME:
            raise Problem(f"there is no part {name!r}; the parts are: {', '.join(BY_NAME)}")
    took: dict[str, float] = {}
    _mark_used(names)
    if all(BY_NAME[name].built().is_dir() for name in names):
        return took
    if shutil.which("go") is None:
        raise Problem("Go is missing; the programs need Go 1.26 or newer on PATH")
    for part in PARTS:
        if part.name in names and not part.built().is_dir():
            # For one part at a time: who needs a short one does not wait for all the long ones.
            with _lock():
                if not part.built().is_dir():
                    say(f"building {part.name} ...")
                    began = time.monotonic()
                    _build(part)
                    took[part.name] = time.monotonic() - began
                    say(f"built {part.name} in {took[part.name]:.0f} s")
    with _lock():
        if all(part.built().is_dir() for part in PARTS):
            _clean()
    return took


def _environment(part: Part) -> dict[str, str]:
    building = cache() / "building"
    # Not GOTOOLCHAIN, GOPROXY, GOSUMDB: those are the machine's.
    return os.environ | {
        "GOCACHE": str(building / "go-build"),
        "GOMODCACHE": str(building / "modules"),
        # A build that is killed leaves its temporary files where they are removed in the end.
        "GOTMPDIR": str(building),
        "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",
        "GOWORK": "off",
        "CGO_ENABLED": "1" if part.cgo else "0",
    }


def _build(part: Part) -> None:
    source, environment = FOLDER / part.name, _environment(part)
    new = cache() / "building" / part.name
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    variables = [f"-X '{name}={value}'" for name, value in part.variables.items()]
    for name, package in part.programs.items():
        command = ["nice", "-n", "19", "go", "build", "-p", "2", "-trimpath", "-tags", part.tags]
        command += ["-ldflags", " ".join(["-s -w", *variables]), "-o", str(new / name), package]
        done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Problem(f"{part.name} cannot be built; go said:\n{done.stdout}{done.stderr}")
    first = next(iter(part.programs))
    for link in part.links:
        os.symlink(first, new / link)
    for module, folders in part.folders.items():
        command = ["go", "list", "-m", "-f", "{{.Dir}}", module]
        found = subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True, text=True)
        for folder, name in folders.items():
            shutil.copytree(Path(found.stdout.strip()) / folder, new / name)
    new.rename(part.built())


def _mark_used(names: list[str]) -> None:
    """Other trees of this project share the cache, so an old build goes only when nobody used it for long."""
    for name in names:
        if BY_NAME[name].built().is_dir():
            os.utime(BY_NAME[name].built())
    for old in cache().glob("*-" + "[0-9a-f]" * 16):
        if time.time() - old.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(old, ignore_errors=True)


def _clean() -> None:
    """Removes Go's caches (up to 14 GB): with every part built nothing needs them."""
    shutil.rmtree(cache() / "building", ignore_errors=True)
