"""Namespaces that hold a node, and processes in them.

A node is a process that does nothing: the first of a pid namespace of its own, with its own network and
mount namespaces. All that belongs to the node is started inside. When the first process ends, the kernel
ends every other process of that pid namespace, and mounts, links and firewall tables go with their
namespaces; so tear-down needs no list of what Kubernetes, containerd and Cilium made, and cannot miss
or take too much.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
# include/uapi/linux/sched.h
_NEW_MOUNT, _NEW_PID, _NEW_NET = 0x00020000, 0x20000000, 0x40000000


def _system(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


@dataclass(frozen=True)
class Process:
    """A process as it was when it was started: a pid that was given out again is not it."""

    pid: int
    # In clock ticks since boot, proc(5).
    started: int
    command: str

    @staticmethod
    def now(pid: int) -> Process | None:
        """The process that has this pid, if there is one and it has not ended."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if after_name[0] in "ZX":
            return None
        return Process(pid, int(after_name[19]), command.strip())

    def alive(self) -> bool:
        """Whether this very process still runs."""
        now = Process.now(self.pid)
        return now is not None and (now.started, now.command) == (self.started, self.command)

    def end(self, patience: float = 5.0, forced: bool = False) -> None:
        """Ends it, after `patience` seconds (or at once) by SIGKILL, and waits until it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Between this check and the signal the pid cannot change hands: the handle is the process.
            if not self.alive():
                return
            if not forced:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                if _wait(handle, patience):
                    return
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            _wait(handle, 30.0)
        except ProcessLookupError:
            return
        finally:
            os.close(handle)


def _wait(handle: int, seconds: float) -> bool:
    """Waits for the end of the last thread: until then the process keeps its ports."""
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    return bool(ended.poll(seconds * 1000))


def _fork_from(enter, action) -> int:
    """Runs `action` in a grandchild, after `enter` in the child; returns its pid, as seen from here."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            os.setsid()
            enter()
            grandchild = os.fork()
            if grandchild == 0:
                os.close(write)
                action()
                os._exit(127)
            os.write(write, str(grandchild).encode())
            status = 0
        except BaseException as error:  # noqa: BLE001 # must not return into the caller's code
            os.write(2, f"cluster: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    if not text:
        raise OSError("a process could not be started; the reason is above")
    return int(text)


def _settled(pid: int, name: str) -> Process:
    """The process once it shows its own command line."""
    mine = Process.now(os.getpid())
    for _ in range(500):
        process = Process.now(pid)
        if process is None:
            break
        if process.command and (mine is None or process.command != mine.command):
            return process
        time.sleep(0.01)
    raise OSError(f"{name} ended at once; its log says why")


def hold(name: str, only_network: bool, log: Path) -> Process:
    """Makes new namespaces with a first process called `name`; it sleeps for ever and reaps orphans."""

    def enter() -> None:
        kinds = _NEW_NET if only_network else _NEW_NET | _NEW_MOUNT | _NEW_PID
        _system(_LIBC.unshare(kinds), "unshare")
        if not only_network:
            # Mounts of the machine come in, none goes out; inside, containers can share further.
            _mount(None, "/", None, 0x4000 | 0x80000, None)  # MS_REC | MS_SLAVE
            _mount(None, "/", None, 0x4000 | 0x100000, None)  # MS_REC | MS_SHARED

    def action() -> None:
        _output(log)
        if not only_network:
            _mount("proc", "/proc", "proc", 0xE, None)  # nosuid, nodev, noexec
        # Orphans become children of this process; who ignores SIGCHLD has none to wait for.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.execv("/bin/sleep", [name, "infinity"])

    return _settled(_fork_from(enter, action), name)


def _mount(source, target, kind, flags, data) -> None:
    encoded = [text.encode() if text is not None else None for text in (source, target, kind)]
    _system(_LIBC.mount(*encoded, ctypes.c_ulong(flags), data), f"mount {target}")


def _output(log: Path) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, 256)


def spawn(holder: Process, name: str, command: list[str], log: Path, environment: dict[str, str]) -> Process:
    """Starts a program in all namespaces of a node; its output goes to `log`."""
    handles = [(os.open(f"/proc/{holder.pid}/ns/{kind}", os.O_RDONLY), flag) for kind, flag in _kinds(holder.pid)]

    def enter() -> None:
        for handle, flag in handles:
            _system(_LIBC.setns(handle, flag), "setns")
        os.chdir("/")

    def action() -> None:
        _output(log)
        os.execve(command[0], command, environment)

    try:
        return _settled(_fork_from(enter, action), name)
    finally:
        for handle, _ in handles:
            os.close(handle)


def _kinds(pid: int) -> list[tuple[str, int]]:
    """The kinds in which this process differs from us; the mount namespace last."""
    kinds = [("net", _NEW_NET), ("pid", _NEW_PID), ("mnt", _NEW_MOUNT)]
    return [(k, flag) for k, flag in kinds if os.readlink(f"/proc/{pid}/ns/{k}") != os.readlink(f"/proc/self/ns/{k}")]


def enter_command(holder: Process, *kinds: str) -> list[str]:
    """The command words that run what follows in these namespaces of a node (`net`, `mount`, `pid`)."""
    return ["nsenter", f"--target={holder.pid}", *(f"--{kind}" for kind in kinds), "--"]


def run_in(holder: Process, *command: str, kinds: tuple[str, ...] = ("net", "mount"), text: str | None = None) -> str:
    """Runs a command in a node and returns its output; raises with what it said when it failed."""
    words = [*enter_command(holder, *kinds), *command]
    done = subprocess.run(words, capture_output=True, text=True, input=text)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stdout}{done.stderr}".strip())
    return done.stdout
