"""Runs inside the image, as its user: what was prepared for the start is what the interpreter would make."""

import _sre
import importlib
import importlib.util
import marshal
import os
import re._compiler as compiler
import sys
import threading
from pathlib import Path

LAUNCHER = Path("/usr/local/lib/cubicle")
HEADER = 16  # of a .pyc file

sys.path.insert(0, str(LAUNCHER))
import prepared  # noqa: E402 - lies where the line above points


def same() -> None:
    index = marshal.loads((LAUNCHER / prepared.INDEX).read_bytes())
    code = (LAUNCHER / prepared.CODE).read_bytes()
    assert index["interpreter"] == prepared.interpreter()
    for name, (origin, _, cached, start, end) in index["modules"].items():
        if cached is None:
            assert origin.endswith(".so") and Path(origin).exists(), f"{name} is no library"
            continue
        assert cached == importlib.util.cache_from_source(origin), name
        assert code[start:end] == Path(cached).read_bytes()[HEADER:], f"{name} is not the byte code of {origin}"
    for (_, pattern, flags), known in index["patterns"].items():
        assert compiler.compile(pattern, flags) == _sre.compile(*known), pattern
    for wanted, place in index["texts"].items():
        assert marshal.loads(code[slice(*place)]) == compile(*wanted), wanted
    assert len(index["texts"]) > 50, "classes of attrs and dataclasses come with many texts"
    print("  " + ", ".join(f"{len(index[what])} {what}" for what in ("modules", "patterns", "texts")))


def makers() -> None:
    """What was not prepared is made as ever, with the future statements of whoever asks."""
    assert prepared.use(str(LAUNCHER))
    import collections
    import dataclasses

    point = collections.namedtuple("Point", ["x", "never_prepared"])
    assert point(1, never_prepared=2) == (1, 2)
    made = dataclasses.make_dataclass("Made", [("number", int), ("words", list, dataclasses.field(default_factory=list))])
    assert made(3) == made(number=3, words=[]) and repr(made(3)) == "Made(number=3, words=[])"
    from attr._make import attrib, make_class

    assert make_class("Other", {"y": attrib(default=4)})().y == 4
    assert prepared.platform.processor() == ""


def deferred() -> None:
    assert prepared.use(str(LAUNCHER))
    import arrow
    import requests
    from IPython.paths import get_ipython_dir
    import IPython

    assert all(not prepared.is_running(module.__spec__) for module in (arrow, requests, IPython))
    assert get_ipython_dir()
    # Many threads at once find the module whole.
    found = []
    threads = [threading.Thread(target=lambda: found.append(arrow.get("2026-01-01").year)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2026] * 8, found
    assert requests.exceptions.ConnectionError.__mro__[1] is requests.RequestException
    assert IPython.InteractiveShell and IPython.paths.get_ipython_dir is get_ipython_dir
    for name in prepared.DEFERRED:
        if name.startswith("nbformat."):
            import nbformat

            assert getattr(nbformat, name.partition(".")[2]).__name__ == name
        module = importlib.import_module(name)
        assert module.__doc__ is None or isinstance(module.__doc__, str)
        assert prepared.is_running(module.__spec__), name


def another_interpreter() -> None:
    """What was prepared for another Python is not used."""
    prepared.interpreter = lambda: ("another",)
    before = list(sys.meta_path)
    assert not prepared.use(str(LAUNCHER)) and not prepared.use("/nowhere")
    assert sys.meta_path == before


def files_at_once() -> None:
    """A list of files asks no thread, is the same, and leaves others their turns; what may take long still has a thread."""
    import asyncio
    import inspect
    import tempfile
    import threading

    import launch
    from jupyter_server.services.contents import filemanager
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

    text = inspect.getsource(filemanager.AsyncFileContentsManager)
    assert "await run_sync(os.listdir, os_dir)" in text and "await run_sync(os.lstat, os_path)" in text
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2000):
            open(f"{folder}/{number}.txt", "w").close()
        os.symlink("nowhere", f"{folder}/broken")
        os.mkfifo(f"{folder}/pipe")
        manager, turns = AsyncLargeFileManager(root_dir=folder), 0

        async def listed() -> tuple[list[str], int]:
            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            beside = asyncio.create_task(others())
            model = await manager.get("")
            threads = sum(thread.name.startswith("AnyIO") for thread in threading.enumerate())
            beside.cancel()
            return sorted(entry["name"] for entry in model["content"]), threads

        names, threads = asyncio.run(listed())
        assert threads, "Jupyter itself asks no thread any more"
        launch.list_files_at_once()
        turns = 0
        assert asyncio.run(listed()) == (names, 0), "another list, or one that a thread was asked for"
        assert len(names) == 2001 and turns > 3, f"{len(names)} files, {turns} turns of others"
        here = threading.get_ident()
        assert asyncio.run(filemanager.run_sync(threading.get_ident)) != here


def taken_while_it_loads() -> None:
    """A kernel that only loads may be taken before it has done so, and works."""
    import ahead
    from jupyter_client.blocking import BlockingKernelClient
    from jupyter_client.connect import write_connection_file

    os.environ["HOME"] = "/tmp"
    kernel = ahead.KernelAhead(with_shell=False)
    file, _ = write_connection_file("/tmp/taken.json")
    command = [*ahead.COMMAND, "-f", file]
    assert kernel.fits(command, dict(os.environ), {}) and not kernel.told
    process = kernel.take(command, "/tmp", dict(os.environ))
    client = BlockingKernelClient(connection_file=file)
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        assert process.poll() is None
    finally:
        client.stop_channels()
        process.kill()


def impatient() -> None:
    """What connections to kernels wait with looks again soon, and the places where Jupyter waits are where they were."""
    import asyncio
    import inspect
    from types import SimpleNamespace

    import launch
    import zmq
    from jupyter_client import manager
    from jupyter_client.multikernelmanager import AsyncMultiKernelManager
    from jupyter_server.services.kernels.connection import channels

    text = inspect.getsource(channels)
    assert "loop.call_later(0.5, nudge, count)" in text and "await asyncio.sleep(0.05)" in text
    assert "loop = IOLoop.current()" in text and "await asyncio.sleep(0.01)" in inspect.getsource(manager)
    launch.connect_to_kernels_soon()
    assert isinstance(channels.asyncio, launch.ImpatientSleep), channels.asyncio
    assert isinstance(manager.asyncio, launch.ImpatientSleep), manager.asyncio

    async def current() -> object:
        return channels.IOLoop.current()

    assert isinstance(asyncio.run(current()), launch.ImpatientLoop)

    def nudge(count: int) -> None:
        """Named as Jupyter's."""

    waits = []
    loop = launch.ImpatientLoop(SimpleNamespace(call_later=lambda delay, *_: waits.append(delay), time=lambda: 7))
    for count in (1, 2, 9):
        loop.call_later(0.5, nudge, count)
    loop.call_later(0.5, print, 1)
    assert waits == [0.005, 0.01, 0.5, 0.5] and loop.time() == 7, waits
    channels.asyncio = launch.ImpatientSleep(SimpleNamespace(sleep=waits.append, Future=list))
    channels.asyncio.sleep(0.05)
    assert waits[4:] == [0.005] and channels.asyncio.Future == list, waits

    class Application:
        initialize_handlers = id
        serverapp = SimpleNamespace(web_app=SimpleNamespace(settings={"page_config_data": {}}), kernel_manager=AsyncMultiKernelManager())

    launch.adapt(Application)
    Application().initialize_handlers()
    with Application.serverapp.kernel_manager.context.socket(zmq.DEALER) as socket:
        assert (socket.getsockopt(zmq.RECONNECT_IVL), socket.getsockopt(zmq.RECONNECT_IVL_MAX)) == (5, 200)


if __name__ == "__main__":
    {"same": same, "makers": makers, "deferred": deferred, "another_interpreter": another_interpreter, "impatient": impatient,
     "files_at_once": files_at_once, "taken_while_it_loads": taken_while_it_loads}[sys.argv[1]]()
