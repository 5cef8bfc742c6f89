"""A first kernel that is loaded before somebody wants one (`kernel.py`).

One kernel, once: the first that is started gets it if it would be the very same, an ordinary one of the image's Python
with the variables that it was loaded with. Every other is started as usual.
"""

import json
import os
import select
import site
import subprocess
import sys
from collections.abc import Callable

KERNEL = __file__.rpartition("/")[0] + "/kernel.py"
COMMAND = [sys.executable, "-m", "ipykernel_launcher"]
# What a server waits for it to be loaded, in seconds; it is started either way.
PATIENCE = 10
# What one that nobody uses may keep its memory for once there is a user, in seconds.
UNUSED = 300
# How often to look whether there is one.
LOOK = 30


def inherited(environment: dict[str, str]) -> dict[str, str]:
    """The variables that are not of a single kernel."""
    return {name: value for name, value in environment.items() if not name.startswith("JPY_")}


class KernelAhead:
    """The process of a kernel that waits."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.loaded, loaded = os.pipe()
        # As jupyter_client starts them: in a session of its own, with the server's outputs.
        self.process = subprocess.Popen(
            [sys.executable, KERNEL, str(loaded)], stdin=subprocess.PIPE, pass_fds=[loaded], cwd="/",
            env=self.environment, start_new_session=True,
        )
        os.close(loaded)

    def wait(self) -> None:
        """Until it is loaded."""
        select.select([self.loaded], [], [], PATIENCE)

    def end(self) -> None:
        """It is not wanted."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        os.close(self.loaded)

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
        )

    def take(self, command: list[str], directory: str | None, environment: dict[str, str]) -> subprocess.Popen | None:
        """Has it go on as this kernel; none when it has just ended."""
        variables = {**environment, "JPY_PARENT_PID": str(os.getpid())}
        work = {"arguments": command[len(COMMAND):], "directory": os.fspath(directory or os.getcwd()), "environment": variables}
        try:
            self.process.stdin.write(json.dumps(work).encode() + b"\n")
            self.process.stdin.close()
        except OSError:
            return None
        os.close(self.loaded)
        return self.process

    def offer(self, loop, has_user: Callable[[], bool] = lambda: True) -> None:
        """From now on the first kernel may have it, for a while once there is a user."""
        from jupyter_client.provisioning import local_provisioner

        launch = local_provisioner.launch_kernel

        def take_or_launch(cmd: list[str], env: dict[str, str] | None = None, cwd: str | None = None, **others):
            local_provisioner.launch_kernel = launch
            environment = dict(os.environ) if env is None else env
            if self.fits(cmd, environment, others) and (taken := self.take(cmd, cwd, environment)):
                return taken
            self.end()
            return launch(cmd, env=env, cwd=cwd, **others)

        def withdraw() -> None:
            if local_provisioner.launch_kernel is take_or_launch:
                local_provisioner.launch_kernel = launch
                self.end()

        def look() -> None:
            loop.call_later(*((UNUSED, withdraw) if has_user() else (LOOK, look)))

        local_provisioner.launch_kernel = take_or_launch
        look()
