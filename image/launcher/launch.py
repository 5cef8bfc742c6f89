"""Starts JupyterLab in a workspace: quickly, quietly, and also when the home is full.

Reads CUBICLE_ADDRESS, CUBICLE_PORT and CUBICLE_TOKEN. What users configure in their home still counts, except
where the hub depends on it: address, port, token.

With CUBICLE_HOME_LATER=1 the home is not there yet. The server then gets ready, and a first kernel with it, takes connections
but answers none, and goes on when a home is mounted and somebody connects; it begins anew where the home has settings or
packages of its own, which a server reads at its start.

With CUBICLE_USER_LATER=1 the home is there, new and empty, but not yet anybody's. The server then gets ready in the same
way, and answers whoever may ask.
"""

import sys

HERE = __file__.rpartition("/")[0]
# The interpreter runs isolated, without the script's own folder.
sys.path.insert(0, HERE)
import prepared  # noqa: E402

# Before anything else is imported, so that it comes prepared as well.
prepared.use(HERE)
import ahead  # noqa: E402

sys.path.remove(HERE)

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import datetime  # noqa: E402
import fcntl  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import secrets  # noqa: E402
import select  # noqa: E402
import site  # noqa: E402
import socket  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402
from pathlib import Path  # noqa: E402

# What the server and a first kernel write before the user does anything, with a margin.
ROOM_NEEDED = 1 << 20


def block_slow_imports() -> None:
    """Keeps out what the image's build found to cost seconds at import.

    Its only use in a Jupyter server is checking the `iri` format of JSON schemas, which no schema
    of Jupyter's has; the importing package treats it as optional. Kernels are not affected.
    """
    for module in json.loads(Path(HERE, "slow_imports.json").read_text(encoding="ascii")):
        sys.modules[module] = None


class NoExtensionManager:
    """Stands where the manager of extensions from elsewhere would, with its client for package indexes."""

    def __init__(self, *arguments: object) -> None:
        sys.exit("launch.py: the options choose the read-only manager of extensions; nothing else can be had")


def leave_out_extension_manager() -> None:
    """Imports no manager that the options below do not choose."""
    module = types.ModuleType("jupyterlab.extensions.pypi")
    module.PyPIExtensionManager = NoExtensionManager
    sys.modules[module.__name__] = module


def add_user_packages() -> None:
    """Lets the server find extensions in the home, after the image's own packages.

    The interpreter runs isolated, so that a package in the home that does not fit the server
    cannot keep it from starting. Kernels are ordinary interpreters: there the user's come first.
    """
    base = os.environ.get("PYTHONUSERBASE") or os.path.expanduser("~/.local")
    os.environ["PYTHONUSERBASE"] = base
    path = os.environ.get("PATH", os.defpath).split(":")
    os.environ["PATH"] = ":".join([f"{base}/bin", *(folder for folder in path if folder != f"{base}/bin")])
    site.USER_BASE = base
    site.USER_SITE = f"{base}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    site.ENABLE_USER_SITE = True
    if os.path.isdir(site.USER_SITE):
        site.addsitedir(site.USER_SITE)


def has_room(home: Path) -> bool:
    """Whether the home takes the few files that a start writes."""
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_NEEDED)
    except OSError:
        return False
    return True


def wants_its_own_start(home: Path) -> bool:
    """Whether a server has to read this home while it starts: for settings, for packages, or for lack of room."""
    settings = set(os.listdir(home / ".jupyter")) if (home / ".jupyter").is_dir() else set()
    # Of these a server reads what it needs when it needs it.
    settings -= {"lab", "migrated"}
    base = Path(os.environ["PYTHONUSERBASE"])
    packages = [Path(site.USER_SITE), base / "etc/jupyter", base / "share/jupyter"]
    return bool(settings) or any(place.exists() for place in packages) or not has_room(home)


def wait_for_home(home: Path, listening: list[socket.socket]) -> None:
    """Waits until a home is mounted and whoever mounted it connects.

    They connect when they have proven that the home changed no wall; before that nothing in it is used.
    """
    for one in listening:
        one.setblocking(False)
    # Whoever watches this file is told of every change of what is mounted (proc(5), /proc/pid/mounts).
    with open("/proc/self/mounts", "rb") as mounts:
        watch = select.poll()
        watch.register(mounts, select.POLLPRI)
        while not os.path.ismount(home):
            watch.poll()
    # Who looked before whether anybody listens has gone; who is cut off here comes again.
    for one in listening:
        with contextlib.suppress(BlockingIOError):
            while True:
                one.accept()[0].close()
    select.select(listening, [], [])


def options(address: str, port: str, token: str, home: Path, room: bool) -> list[str]:
    """The server's options; given as arguments, they win over configuration files in the home."""
    chosen = {
        # On one machine it is reached only by the engine, from inside the workspace's own network
        # namespace; in a cluster, by the hub at the pod's address.
        "ServerApp.ip": address,
        "ServerApp.port": port,
        "ServerApp.port_retries": "0",
        # A portal shows it below a path of its own.
        "ServerApp.base_url": os.environ.get("CUBICLE_BASE", "/"),
        "ServerApp.root_dir": str(home),
        "IdentityProvider.token": token,
        # The hub checks Host and Origin and gives every workspace an origin of its own.
        "ServerApp.allow_remote_access": "True",
        "ServerApp.trust_xheaders": "True",
        "ServerApp.open_browser": "False",
        # Stopping is the hub's: a server that quits by its own button looks like a crash.
        "ServerApp.quit_button": "False",
        "ServerApp.shutdown_no_activity_timeout": "0",
        # Nothing asks the outside for news, updates or catalogues of extensions.
        "LabApp.news_url": "None",
        "LabApp.check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    if not room:
        chosen["NotebookNotary.db_file"] = ":memory:"
        chosen["NotebookNotary.secret"] = secrets.token_hex(32)
    return [f"--{name}={value}" for name, value in chosen.items()]


def adapt(application: type) -> None:
    """Keeps the token out of what browsers get, since the hub adds it to every request by itself; and
    collects garbage again when what is loaded at the start is there: nearly all of it stays for good, and
    looking through it again and again is a sixth of the start's processor time."""
    import zmq

    initialize = application.initialize_handlers

    def initialize_and_adapt(self) -> None:
        initialize(self)
        self.serverapp.web_app.settings["page_config_data"]["token"] = ""
        # A kernel that does not listen yet is tried again after 5 ms, and then ever later; by default after 100.
        self.serverapp.kernel_manager.context.setsockopt(zmq.RECONNECT_IVL, 5)
        self.serverapp.kernel_manager.context.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        gc.freeze()
        gc.enable()

    application.initialize_handlers = initialize_and_adapt


class Impatient:
    """What a connection to a kernel waits with: Jupyter's own, but it does not wait as long."""

    def __init__(self, of) -> None:
        self.of = of

    def __getattr__(self, name: str):
        return getattr(self.of, name)


class ImpatientLoop(Impatient):
    """Asks whether a new connection hears its kernel again soon, and then ever later. The first question is nearly
    always too early by milliseconds, since the connection is still being made when the kernel answers; Jupyter's own
    next one comes half a second later.
    """

    FIRST = 0.0025

    def call_later(self, delay: float, callback, *arguments, **named):
        if getattr(callback, "__name__", "") == "nudge" and arguments:
            delay = min(delay, self.FIRST * 2 ** arguments[0])
        return self.of.call_later(delay, callback, *arguments, **named)


class ImpatientSleep(Impatient):
    """A tenth: Jupyter looks every 100 ms whether a kernel lives, every 50 whether it has started, and lets each start
    last 10 ms longer, so that its tests see that it is pending.
    """

    def sleep(self, delay: float):
        return self.of.sleep(delay / 10)


def connect_to_kernels_soon() -> None:
    """Gives connections to kernels the impatient ways to wait."""
    from jupyter_client import manager
    from jupyter_server.services.kernels.connection import channels
    from tornado.ioloop import IOLoop

    channels.IOLoop = types.SimpleNamespace(current=lambda: ImpatientLoop(IOLoop.current()))
    channels.asyncio = manager.asyncio = ImpatientSleep(manager.asyncio)


class FilesAtOnce:
    """How a list of files is made: Jupyter asks a thread for each file's status, which takes longer than the answer and than
    all else that it looks up of the file by itself. Whoever else waits has their turn as often as before a long list.
    """

    DIRECT = (os.listdir, os.lstat)
    # How long the server's loop may be kept, in seconds.
    TURN = 0.005

    def __init__(self, in_thread) -> None:
        self.in_thread, self.kept_since = in_thread, 0.0

    async def run(self, function, *arguments, **named):
        if function not in self.DIRECT:
            return await self.in_thread(function, *arguments, **named)
        if time.monotonic() - self.kept_since > self.TURN:
            await asyncio.sleep(0)
            self.kept_since = time.monotonic()
        return function(*arguments, **named)


def list_files_at_once() -> None:
    """Gives the manager of files the direct way."""
    from jupyter_server.services.contents import filemanager

    filemanager.run_sync = FilesAtOnce(filemanager.run_sync).run


def send_at_once() -> None:
    """Has the WebSockets of kernels, terminals and language servers send each message when it is there.

    The second of two small ones would otherwise wait until the first is acknowledged (RFC 896), which the other side
    puts off by 40 ms: so long after the word that a cell runs would its result come.
    """
    from jupyter_server.base.websocket import WebSocketMixin

    opened = WebSocketMixin.open

    def open_and_send_at_once(self, *arguments, **named):
        # Somebody may have left while a handler waited for something else.
        if self.ws_connection is not None:
            self.set_nodelay(True)
        return opened(self, *arguments, **named)

    WebSocketMixin.open = open_and_send_at_once


async def rehearse(server) -> None:
    """Answers the first requests of every visit once to itself, at a port that nobody knows, so that what they
    load is loaded."""
    from jupyter_client.localinterfaces import local_ips
    from tornado.httpclient import AsyncHTTPClient
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    # Which addresses are this machine's is looked up once, and the start of a kernel asks for it.
    local_ips()
    sockets = bind_sockets(0, "127.0.0.1")
    stage, client = HTTPServer(server.web_app), AsyncHTTPClient()
    stage.add_sockets(sockets)
    for path in ("api", "api/contents", "api/kernelspecs", "api/sessions", "api/terminals", "lab", "lab/api/settings"):
        with contextlib.suppress(Exception):
            await client.fetch(
                f"http://127.0.0.1:{sockets[0].getsockname()[1]}{server.base_url}{path}",
                headers={"Authorization": f"token {server.identity_provider.token}"},
                request_timeout=10,
            )
    client.close()
    stage.stop()
    await stage.close_all_connections()


def get_ready_before_the_first_answer(server: type) -> None:
    """Loads what a first visit and a first kernel need, before it takes connections."""
    bind = server._bind_http_server

    async def rehearse_and_bind(self) -> None:
        kernel = ahead.KernelAhead()
        await rehearse(self)
        kernel.wait()
        bind(self)
        # Whoever made this sandbox looks once whether it answers; what comes later comes from a user.
        settled = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
        kernel.offer(self.io_loop, lambda: self.web_app.last_activity() > settled)

    def bind_later(self) -> None:
        self.io_loop.add_callback(rehearse_and_bind, self)

    server._bind_http_server = bind_later


def wait_before_the_first_answer(server: type, home: Path, started_with: dict[str, str]) -> None:
    """Puts the wait between taking connections and answering them, and keeps the server from making folders
    in a home that is not there: they are made when it is."""
    from jupyter_core import application

    bind, make_folder, wanted = server._bind_http_server, application.ensure_dir_exists, []

    def make_later(path, mode=0o777) -> None:
        wanted.append((path, mode))

    async def rehearse_bind_and_wait(self) -> None:
        kernel = ahead.KernelAhead()
        await rehearse(self)
        kernel.wait()
        # Whoever finds that it listens may mount the home. The server's loop stands still until that is done.
        bind(self)
        wait_for_home(home, list(self.http_server._sockets.values()))
        if wants_its_own_start(home):
            kernel.end()
            # In the same sandbox, with the same arguments and variables; only that the home is there now.
            os.environ.update(started_with)
            os.execv(sys.executable, sys.orig_argv)
        # The directory of the same name that the mount hides is not the home.
        os.chdir(home)
        kernel.renewed().offer(self.io_loop)
        application.ensure_dir_exists = make_folder
        for path, mode in wanted:
            make_folder(path, mode)
        self.web_app.settings["started"] = datetime.datetime.now(datetime.UTC)

    def bind_later(self) -> None:
        self.io_loop.add_callback(rehearse_bind_and_wait, self)

    application.ensure_dir_exists, server._bind_http_server = make_later, bind_later


def make_room_for_descriptors() -> None:
    """Has the table of descriptors grow while there is one thread. Later a process of several waits for that until every
    processor has seen it (Linux, expand_fdtable in fs/file.c), which takes as long as a cell."""
    with contextlib.suppress(OSError), open("/dev/null", "rb") as nothing:
        os.close(fcntl.fcntl(nothing, fcntl.F_DUPFD_CLOEXEC, 255))


def main() -> None:
    make_room_for_descriptors()
    home_later = os.environ.pop("CUBICLE_HOME_LATER", "") == "1"
    user_later = os.environ.pop("CUBICLE_USER_LATER", "") == "1"
    started_with = {name: value for name, value in os.environ.items() if name.startswith("CUBICLE_")}
    address = os.environ.pop("CUBICLE_ADDRESS", "127.0.0.1")
    port = os.environ.pop("CUBICLE_PORT", "8888")
    # Popped: kernels and terminals have no use for it.
    token = os.environ.pop("CUBICLE_TOKEN", "")
    if not token:
        sys.exit("launch.py: CUBICLE_TOKEN is not set; a notebook without a token is not started")
    home = Path(os.environ.setdefault("HOME", "/home/user"))
    os.environ.setdefault("SHELL", "/bin/bash")
    # Sockets and connection files live as long as the server; never in the home, which may be full.
    os.environ["JUPYTER_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="jupyter-runtime-")
    room = home_later or has_room(home)
    if not room:
        print(f"launch.py: {home} is full; starting without history and trust database", file=sys.stderr)
        # Not made here: finding one, Jupyter would migrate files into the home from it.
        os.environ["IPYTHONDIR"] = os.path.join(tempfile.mkdtemp(prefix="ipython-"), "ipython")
    with contextlib.suppress(OSError):
        os.chdir(home)
    gc.disable()
    block_slow_imports()
    leave_out_extension_manager()
    add_user_packages()

    from jupyterlab.labapp import LabApp

    adapt(LabApp)
    connect_to_kernels_soon()
    send_at_once()
    list_files_at_once()
    from jupyter_server.serverapp import ServerApp

    if home_later:
        wait_before_the_first_answer(ServerApp, home, started_with)
    elif user_later:
        get_ready_before_the_first_answer(ServerApp)
    sys.argv = ["jupyter-lab"]
    sys.exit(LabApp.launch_instance(options(address, port, token, home, room)))


if __name__ == "__main__":
    main()
