"""A kernel that is ready before anybody wants one, and waits for its work.

It is started by `ahead.py`, tells it once where it listens, is told once on its standard input where it works and with
which variables, and goes on as `python -m ipykernel_launcher` does. It is an ordinary interpreter, and no copy of another:
what is random in it is its own. Nothing of it looks at the home, which may not be there yet: until then its shell keeps
what it writes in a folder that is thrown away. Where the image or the home has settings that a shell reads while it
starts, everything is loaded and the shell starts later, with them.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import sys

# What the image's configuration and the arguments below may choose, so that a shell may start without its user.
EXPECTED_SETTINGS = {"HistoryManager": {"connection_options"}, "IPKernelApp": {"connection_file"}}


def load() -> None:
    """Imports what every start and every first cell would."""
    import faulthandler
    import sqlite3

    import IPython.core.completerlib
    import IPython.core.debugger
    import IPython.core.oinspect
    import IPython.extensions.storemagic
    import ipykernel.debugger
    import ipykernel.ipkernel
    import ipykernel.zmqshell
    import psutil
    import tornado.platform.asyncio  # noqa: F401


def image_has_settings() -> bool:
    """Whether the image itself says more of how shells start than ours does: what it runs may want the user's folder."""
    from ipykernel.kernelapp import IPKernelApp
    from IPython.core.application import ENV_CONFIG_DIRS, SYSTEM_CONFIG_DIRS

    application = IPKernelApp()
    application.parse_command_line(["-f", "nowhere"])
    folders = [*ENV_CONFIG_DIRS, *SYSTEM_CONFIG_DIRS]
    application.config_file_paths.extend(folders)
    application.load_config_file()
    others = (set(chosen) - EXPECTED_SETTINGS.get(part, set()) for part, chosen in application.config.items())
    startup = (os.path.isdir(os.path.join(folder, "startup")) for folder in folders)
    return "PYTHONSTARTUP" in os.environ or any(startup) or any(others)


class Shell:
    """A kernel with its sockets and its shell, which is nobody's yet."""

    def __init__(self, folder: str) -> None:
        from ipykernel.kernelapp import IPKernelApp

        variables = dict(os.environ)
        self.folder = folder
        os.environ["IPYTHONDIR"] = os.path.join(folder, "ipython")
        self.application = IPKernelApp.instance()
        self.application.initialize(["-f", os.path.join(folder, "connection.json")])
        del os.environ["IPYTHONDIR"]
        # For example which backend Matplotlib has in a kernel.
        self.chosen = {name: value for name, value in os.environ.items() if variables.get(name) != value}
        self.rehearse()

    def rehearse(self) -> None:
        """Runs a cell, so that what the first one loads is loaded; nothing of it is kept."""
        shell = self.application.shell
        names, hidden = dict(shell.user_ns), dict(shell.user_ns_hidden)
        shell.run_cell("6 * 7", store_history=True)
        shell.displayhook.flush()
        # Of the class, not of this history: the user's would have it.
        shell.history_manager.outputs.clear()
        shell.last_execution_result = None
        # The user's takes its place; to end this one takes as long as a cell.
        shell.history_manager.close()
        shell.configurables.remove(shell.history_manager)
        shell.execution_count = 1
        for kept, before in ((shell.user_ns, names), (shell.user_ns_hidden, hidden)):
            kept.clear()
            kept.update(before)

    def connection(self) -> dict[str, object]:
        """Where it listens, and what its messages are signed with."""
        application = self.application
        session = application.session
        ports = {f"{name}_port": getattr(application, f"{name}_port") for name in ("shell", "iopub", "stdin", "control", "hb")}
        signed = {"key": session.key.decode(), "signature_scheme": session.signature_scheme}
        return {"transport": application.transport, "ip": application.ip, **signed, **ports}

    def start(self, connection_file: str) -> None:
        """Becomes the user's: with their folders, their history, and in the present directory."""
        import atexit

        from IPython.paths import get_ipython_dir

        application, shell = self.application, self.application.shell
        # The server's, which also removes it.
        application.connection_file = connection_file
        atexit.unregister(application.cleanup_connection_file)
        application.ipython_dir = shell.ipython_dir = get_ipython_dir()
        application.profile_dir = None
        application.init_profile_dir()
        application.kernel.profile_dir = shell.profile_dir = application.profile_dir
        shell.starting_dir = os.getcwd()
        shell.init_history()
        shell.init_user_ns()
        if session := os.environ.get("JPY_SESSION_NAME"):
            shell.user_ns["__session__"] = session
        shutil.rmtree(self.folder, ignore_errors=True)
        application.start()


def main() -> None:
    # The folder of this script: a kernel has none.
    del sys.path[0]
    ready, folder = int(sys.argv[1]), sys.argv[2]
    load()
    shell = Shell(folder) if folder and not image_has_settings() else None
    # Whoever took it before it was ready does not ask any more.
    with contextlib.suppress(BrokenPipeError):
        os.write(ready, json.dumps(shell and shell.connection()).encode() + b"\n")
    os.close(ready)
    told = sys.stdin.buffer.readline()
    if not told:
        # The server has ended, or has no use for it.
        os._exit(0)
    work = json.loads(told)
    os.environ.clear()
    os.environ.update({**work["environment"], **(shell.chosen if shell else {})})
    os.chdir(work["directory"])
    sys.argv = [importlib.util.find_spec("ipykernel_launcher").origin, *work["arguments"]]
    if shell:
        shell.start(work["arguments"][-1])
    else:
        from ipykernel import kernelapp

        kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
