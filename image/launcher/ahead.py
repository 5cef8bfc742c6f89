"""A first kernel that is ready before somebody wants one (`kernel.py`).

One kernel, once: the first that is started gets it if it would be the very same, an ordinary one of the image's Python
with the variables that it was loaded with. One that has its shell is no kernel of a home with settings for shells. Every
other is started as usual.
"""

import json
import os
import select
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable

KERNEL = __file__.rpartition("/")[0] + "/kernel.py"
COMMAND = [sys.executable, "-m", "ipykernel_launcher"]
# What a server waits for it to be ready, in seconds; it is started either way.
PATIENCE = 10
# What one that nobody uses may keep its memory for once there is a user, in seconds.
UNUSED = 300
# How often to look whether there is one.
LOOK = 30


def inherited(environment: dict[str, str]) -> dict[str, str]:
    """The variables that are not of a single kernel."""
    return {name: value for name, value in environment.items() if not name.startswith("JPY_")}


def names(folder: str) -> list[str]:
    """What is in a folder; nothing where there is none."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def home_has_settings() -> bool:
    """Whether this home says how shells start: then a shell that has started without it is not this user's."""
    profile = os.path.join(os.environ.get("IPYTHONDIR") or os.path.expanduser("~/.ipython"), "profile_default")
    return (
        any("_config." in name for name in names(profile))
        or any(name.endswith((".py", ".ipy")) for name in names(f"{profile}/startup"))
        # Where old versions kept theirs.
        or os.path.exists(os.path.expanduser("~/.config/ipython"))
    )


class KernelAhead:
    """The process of a kernel that waits: with its shell, or with everything loaded that a shell is made of."""

    def __init__(self, with_shell: bool = True) -> None:
        self.environment = dict(os.environ)
        # What it told when it was ready: where it listens, if it does. Which kernel is told so.
        self.told, self.connection, self.given = False, None, None
        # What its shell writes until it has a user.
        self.folder = tempfile.mkdtemp(prefix="kernel-ahead-") if with_shell else ""
        self.ready, ready = os.pipe()
        # As jupyter_client starts them: in a session of its own, with the server's outputs, and ending with the server.
        self.process = subprocess.Popen(
            [sys.executable, KERNEL, str(ready), self.folder], stdin=subprocess.PIPE, pass_fds=[ready], cwd="/",
            env={**self.environment, "JPY_PARENT_PID": str(os.getpid())}, start_new_session=True,
        )
        os.close(ready)

    def wait(self, patience: float = PATIENCE) -> bool:
        """Until it is ready; whether it is."""
        if self.ready is not None and select.select([self.ready], [], [], patience)[0]:
            with open(self.ready, "rb") as ready:
                self.ready, line = None, ready.readline()
            if line:
                self.told, self.connection = True, json.loads(line)
        return self.told

    def end(self) -> None:
        """It is not wanted."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.let_go()
        shutil.rmtree(self.folder, ignore_errors=True)

    def let_go(self) -> None:
        """Nobody asks any more whether it is ready."""
        if self.ready is not None:
            os.close(self.ready)
            self.ready = None

    def renewed(self) -> "KernelAhead":
        """This one, or where the home has settings for shells one that starts its shell with them."""
        if not self.connection or not home_has_settings():
            return self
        self.end()
        return KernelAhead(with_shell=False)

    def fits(self, command: list[str], environment: dict[str, str], others: dict) -> bool:
        """Whether a kernel that is started so would be this one."""
        return (
            [*command[:-1], ""] == [*COMMAND, "-f", ""]
            # Streams of its own, independence, and whatever else could be asked for.
            and not any(others.values())
            and inherited(environment) == inherited(self.environment)
            # Packages in the home come before the image's.
            and not os.path.isdir(site.USER_SITE)
            and self.process.poll() is None
            # One that only loads need not have done so.
            and (self.wait(0) or not self.folder)
            and (not self.connection or self.given == command[-1] and not home_has_settings())
        )

    def give_connection(self, manager) -> None:
        """Has the manager of a kernel reach it where this one listens already."""
        from jupyter_client.connect import LocalPortCache, port_names

        if not self.wait(0) or not self.connection or [*manager.format_kernel_cmd()[:-1], ""] != [*COMMAND, "-f", ""]:
            return
        chosen = {"transport": manager.transport, "ip": manager.ip, "signature_scheme": manager.session.signature_scheme}
        if manager.curve_publickey or any(self.connection[name] != value for name, value in chosen.items()):
            return
        ports = LocalPortCache.instance()
        for name in port_names:
            ports.return_port(getattr(manager, name))
            ports.currently_used_ports.add(self.connection[name])
            setattr(manager, name, self.connection[name])
        manager.session.key = self.connection["key"].encode()
        # As it will stand in the command.
        self.given = os.path.realpath(manager.connection_file)

    def take(self, command: list[str], directory: str | None, environment: dict[str, str]) -> subprocess.Popen | None:
        """Has it go on as this kernel; none when it has just ended."""
        variables = {**environment, "JPY_PARENT_PID": str(os.getpid())}
        work = {"arguments": command[len(COMMAND):], "directory": os.fspath(directory or os.getcwd()), "environment": variables}
        try:
            self.process.stdin.write(json.dumps(work).encode() + b"\n")
            self.process.stdin.close()
        except OSError:
            return None
        self.let_go()
        return self.process

    def offer(self, loop, has_user: Callable[[], bool] = lambda: True) -> None:
        """From now on the first kernel may have it, for a while once there is a user."""
        from jupyter_client.manager import KernelManager
        from jupyter_client.provisioning import local_provisioner

        launch, write = local_provisioner.launch_kernel, KernelManager.write_connection_file

        def give_and_write(manager, **named) -> None:
            KernelManager.write_connection_file = write
            self.give_connection(manager)
            write(manager, **named)

        def take_or_launch(cmd: list[str], env: dict[str, str] | None = None, cwd: str | None = None, **others):
            local_provisioner.launch_kernel, KernelManager.write_connection_file = launch, write
            environment = dict(os.environ) if env is None else env
            if self.fits(cmd, environment, others) and (taken := self.take(cmd, cwd, environment)):
                return taken
            self.end()
            return launch(cmd, env=env, cwd=cwd, **others)

        def withdraw() -> None:
            if local_provisioner.launch_kernel is take_or_launch:
                local_provisioner.launch_kernel, KernelManager.write_connection_file = launch, write
                self.end()

        def look() -> None:
            loop.call_later(*((UNUSED, withdraw) if has_user() else (LOOK, look)))

        local_provisioner.launch_kernel, KernelManager.write_connection_file = take_or_launch, give_and_write
        look()
