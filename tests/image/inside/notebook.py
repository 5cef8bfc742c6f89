"""Runs inside the image, as its user: starts the notebook as the engine does and uses it."""

import contextlib
import errno
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from pathlib import Path

import websocket

LAUNCH = ["/usr/bin/python3", "-I", "-X", "frozen_modules=on", "/usr/local/lib/cubicle/launch.py"]
HOME = Path("/home/user")
PORT = os.environ["CUBICLE_PORT"]
TOKEN = os.environ["CUBICLE_TOKEN"]
SECONDS_TO_START = 60
LOG = Path("/tmp/notebook.log")


def ask(method: str, path: str, body: object = None, token: str | None = TOKEN) -> tuple[int, bytes]:
    """One request, as the hub would send it; returns status and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", method=method)
    request.add_header("Host", "w-1.localhost:8000")
    if token is not None:
        request.add_header("Authorization", f"token {token}")
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@contextlib.contextmanager
def notebook():
    """A running notebook server."""
    with LOG.open("wb") as log:
        server = subprocess.Popen(LAUNCH, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            with contextlib.suppress(OSError):
                if ask("GET", "/api")[0] == 200:
                    break
            assert server.poll() is None, f"the server ended with {server.returncode}"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)
        yield server
    except BaseException:
        sys.stderr.write(LOG.read_text(errors="replace")[-3000:])
        raise
    finally:
        server.terminate()
        server.wait(20)


def connect(path: str) -> websocket.WebSocket:
    """A WebSocket to the server."""
    return websocket.create_connection(
        f"ws://127.0.0.1:{PORT}{path}", header=[f"Authorization: token {TOKEN}"], timeout=60
    )


def run_cell(code: str) -> str:
    """Runs a cell in a new kernel and returns what it prints; an exception in it fails."""
    status, body = ask("POST", "/api/kernels", {"name": "python3"})
    assert status == 201, (status, body)
    kernel = json.loads(body)["id"]
    socket = connect(f"/api/kernels/{kernel}/channels")
    request = uuid.uuid4().hex
    header = {"msg_id": request, "msg_type": "execute_request", "session": request, "username": "", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    socket.send(json.dumps(message))
    printed = ""
    while True:
        answer = json.loads(socket.recv())
        if answer["parent_header"].get("msg_id") != request:
            continue
        kind, content = answer["header"]["msg_type"], answer["content"]
        if kind == "stream":
            printed += content["text"]
        elif kind == "display_data":
            printed += " ".join(content["data"])
        elif kind == "execute_reply":
            assert content["status"] == "ok", content
        elif kind == "status" and content["execution_state"] == "idle":
            break
    socket.close()
    assert ask("DELETE", f"/api/kernels/{kernel}")[0] == 204
    return printed


def commands() -> None:
    for command in ("bash", "curl", "git", "jupyter", "less", "ls", "nano", "pip", "ps", "python3", "unzip"):
        assert shutil.which(command), f"{command} is not there"
    who = subprocess.run(["id"], capture_output=True, text=True, check=True).stdout
    assert who.startswith("uid=1000(user) gid=1000(user)"), who
    assert subprocess.run(["git", "init", "-q", HOME / "repository"]).returncode == 0


def serves() -> None:
    with notebook() as server:
        assert ask("GET", "/api/contents", token=None)[0] == 403
        assert ask("GET", "/api/contents", token="another")[0] == 403
        for path in ("/lab", "/api/contents", "/api/kernelspecs", "/api/terminals", "/lab/api/settings", "/lsp/status"):
            assert ask("GET", path)[0] == 200, path
        extensions = ask("GET", "/lab/api/extensions")[1]
        assert b"jupyterlab-manager" in extensions, "ipywidgets is not among the extensions of the page"
        page = ask("GET", "/lab")[1].decode()
        assert TOKEN not in page, "the page shows the token"
        status, body = ask("PUT", "/api/contents/a.txt", {"type": "file", "format": "text", "content": "kept"})
        assert status == 201 and (HOME / "a.txt").read_text() == "kept", body
        listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
        addresses = {line.split()[1].split(":")[0] for line in listening if line.split()[3] == "0A"}
        assert addresses == {"0100007F"}, f"something listens beside 127.0.0.1: {addresses}"
        assert server.poll() is None


def kernel() -> None:
    with notebook():
        assert run_cell("print(6 * 7)") == "42\n"
        printed = run_cell("import os; print(sorted(n for n in os.environ if n.startswith('CUBICLE')), os.environ['PATH'])")
        assert printed.startswith("[] /home/user/.local/cubicle/test/bin:"), printed
        assert TOKEN not in run_cell("import os; print(dict(os.environ))")
        printed = run_cell(
            "import pandas, numpy, ipywidgets\n"
            "%matplotlib inline\n"
            "import matplotlib.pyplot as plt\n"
            "print(pandas.DataFrame({'a': numpy.arange(3)}).a.sum())\n"
            "plt.plot([1, 2, 3]); plt.show(); display(ipywidgets.IntSlider())"
        )
        assert "3\n" in printed and "image/png" in printed and "widget-view" in printed, printed


def history() -> None:
    """It is there for the next kernel, and no start of one waits for the disk; what the user has set wins."""
    synchronous = "print(get_ipython().history_manager.db.execute('PRAGMA synchronous').fetchone()[0])"
    room = "print(next(line for line in open('/proc/self/status') if line.startswith('FDSize')).split()[1])"
    with notebook() as server:
        run_cell("first = 'of another kernel'")
        assert "of another kernel" in run_cell("%history -g another"), "the history is gone"
        assert run_cell(synchronous) == "0\n"
        assert int(run_cell(room)) >= 256, "a kernel waits for room for its 65th descriptor"
        status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        assert int(next(line for line in status if line.startswith("FDSize")).split()[1]) >= 256, status
        (HOME / ".ipython/profile_default/ipython_config.py").write_text(
            "c.HistoryManager.connection_options = {'check_same_thread': False}\n"
        )
        assert run_cell(synchronous) == "2\n", "the user's own setting does not count"
        assert "of another kernel" in run_cell("%history -g another"), "the history is gone"
        (HOME / ".ipython/profile_default/ipython_config.py").unlink()
        # A crash of the machine has damaged it: the page that says where the sessions are is empty, or all of it.
        kept = HOME / ".ipython/profile_default/history.sqlite"
        for damage in (lambda: clear_root_page(kept, "sessions"), lambda: kept.write_bytes(b"x" * 20000)):
            damage()
            assert run_cell("print(6 * 7)") == "42\n", "a damaged history keeps a kernel from starting"
            run_cell("after = 'the damage'")
            assert "the damage" in run_cell("%history -g damage"), "nothing is kept after the damage"


def clear_root_page(database: Path, table: str) -> None:
    import sqlite3

    with contextlib.closing(sqlite3.connect(database)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


def waiting_kernels() -> list[str]:
    """Processes of kernels that were started before somebody wanted one."""
    return subprocess.run(["pgrep", "-f", "[c]ubicle/kernel.py"], capture_output=True, text=True).stdout.split()


def user_later() -> None:
    """One first kernel is ready before there is a user, who gets it once."""
    about = "import os; print(os.getpid(), os.getcwd(), sorted(n for n in os.environ if n.startswith('CUBICLE')))"
    os.environ["CUBICLE_USER_LATER"] = "1"
    with notebook():
        waiting = waiting_kernels()
        assert len(waiting) == 1, waiting
        assert all(path.name.startswith(".") for path in HOME.iterdir()), list(HOME.iterdir())
        first, second = run_cell(about).split(maxsplit=1), run_cell(about).split(maxsplit=1)
        assert first[0] == waiting[0] != second[0], (waiting, first, second)
        assert first[1] == second[1] == "/home/user []\n", (first, second)
        kept = run_cell("%history -g")
        assert kept.count("getpid") == 2 and "6 * 7" not in kept, f"the history of two kernels is {kept}"
        assert not [path for path in Path("/tmp").glob("kernel-ahead-*")], "the folder of the time before is still there"


def image_with_settings() -> None:
    """What an image says of how shells start is done for its user, and not before."""
    os.environ["CUBICLE_USER_LATER"] = "1"
    site = Path("/usr/local/etc/ipython")
    for name, text in (
        ("ipython_kernel_config.py", "c.IPKernelApp.exec_lines = ['began_in = __import__(\"os\").getcwd()']"),
        ("ipython_config.json", json.dumps({"InteractiveShell": {"colors": "linux"}})),
        ("startup/10-began.py", "began_in = __import__('os').getcwd()"),
    ):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(f"{text}\n")
        with notebook():
            (waiting,) = waiting_kernels()
            told = run_cell("import os; print(os.getpid(), globals().get('began_in'), get_ipython().colors)").split()
            assert told[0] == waiting, "one that only loads was not used"
            assert told[1:] == (["None", "linux"] if "colors" in text else ["/home/user", "neutral"]), (name, told)
        (site / name).unlink()
        if "/" in name:
            (site / name).parent.rmdir()


def user_later_with_settings() -> None:
    """Settings for kernels that a user has made in the meantime count for the first kernel as well."""
    os.environ["CUBICLE_USER_LATER"] = "1"
    profile = HOME / ".ipython/profile_default"
    for name, text, cell in (
        ("ipython_config.py", "c.InteractiveShell.colors = 'linux'", "print(get_ipython().colors)"),
        ("ipython_kernel_config.py", "c.InteractiveShellApp.exec_lines = ['kind = \"linux\"']", "print(kind)"),
        ("startup/10-kind.py", "kind = 'linux'", "print(kind)"),
    ):
        with notebook():
            (waiting,) = waiting_kernels()
            (profile / name).parent.mkdir(parents=True, exist_ok=True)
            (profile / name).write_text(f"{text}\n")
            assert run_cell(cell) == "linux\n", f"{name} does not count"
            assert not waiting_kernels(), "the kernel that was not wanted is still there"
            assert not list(Path("/tmp").glob("kernel-ahead-*")), "its folder is still there"
        (profile / name).unlink()


def terminal() -> None:
    with notebook():
        status, body = ask("POST", "/api/terminals")
        assert status == 200, body
        socket = connect(f"/terminals/websocket/{json.loads(body)['name']}")
        socket.send(json.dumps(["stdin", "echo $((6*7))-$CUBICLE_TOKEN-$0; command -v jupyter; echo $PATH\r"]))
        printed = ""
        while "/usr/local/bin/jupyter" not in printed or ".local/cubicle/test/bin" not in printed:
            kind, *text = json.loads(socket.recv())
            printed += text[0] if kind == "stdout" else ""
        assert "42--" in printed and "bash" in printed, printed


def delays(server: subprocess.Popen, port: int) -> bool:
    """Whether the server's end of the connection from this port holds small messages back."""
    import ctypes
    import socket

    process = os.pidfd_open(server.pid)
    for descriptor in os.listdir(f"/proc/{server.pid}/fd"):
        # pidfd_getfd(2) of x86-64.
        taken = ctypes.CDLL(None, use_errno=True).syscall(438, process, int(descriptor), 0)
        if taken < 0 and ctypes.get_errno() == errno.EBADF:
            # Closed meanwhile.
            continue
        if taken < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        try:
            end = socket.socket(fileno=taken)
        except OSError:
            os.close(taken)
            continue
        with end, contextlib.suppress(OSError):
            if end.family == socket.AF_INET and end.getpeername()[1] == port:
                return not end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    raise LookupError(f"the server has no connection from port {port}")


def sends_at_once() -> None:
    """No message of a kernel or terminal waits for the word that the one before has come."""
    with notebook() as server:
        plain = http.client.HTTPConnection("127.0.0.1", int(PORT))
        plain.request("GET", "/api")
        plain.getresponse().read()
        assert delays(server, plain.sock.getsockname()[1]), "this look at sockets sees no difference"
        kernel = json.loads(ask("POST", "/api/kernels", {"name": "python3"})[1])["id"]
        terminal = json.loads(ask("POST", "/api/terminals")[1])["name"]
        for path in (f"/api/kernels/{kernel}/channels", f"/terminals/websocket/{terminal}"):
            connection = connect(path)
            # The first message says that the server has taken it.
            connection.recv()
            assert not delays(server, connection.sock.getsockname()[1]), path
            connection.close()


def pip() -> None:
    wheel = HOME / "desk-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("desk.py", "def main():\n    print('a desk')\n")
        file.writestr("desk-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
        file.writestr("desk-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("desk-1.0.dist-info/entry_points.txt", "[console_scripts]\ndesk = desk:main\n")
        file.writestr("desk-1.0.dist-info/RECORD", "")
    with notebook():
        printed = run_cell(f"%pip install --no-index {wheel}")
        assert "Successfully installed desk-1.0" in printed, printed
        assert run_cell("import desk; print(desk.__file__)\n!desk").split() == [
            "/home/user/.local/cubicle/test/lib/python3.11/site-packages/desk.py", "a", "desk",
        ]
    environment = HOME / "environment"
    subprocess.run(["python3", "-m", "venv", environment], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([environment / "bin/pip", "install", "-q", "--no-index", wheel], check=True)
    assert (environment / "lib/python3.11/site-packages/desk.py").exists(), "pip in a virtual environment went elsewhere"


def broken_user_packages() -> None:
    packages = HOME / ".local/cubicle/test/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    for name in ("tornado", "jupyter_server", "zmq", "traitlets"):
        (packages / f"{name}.py").write_text("raise RuntimeError('does not fit')\n")
    (packages / "mine.py").write_text("value = 1\n")
    (packages / "broken.pth").write_text("import there_is_no_such_module\n")
    with notebook():
        assert ask("GET", "/lab")[0] == 200


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def works_while_full(free: Path) -> None:
    """Starts, runs a cell, refuses a save with an error, and saves after something was deleted."""
    content = {"type": "file", "format": "text", "content": "x" * 20000}
    with notebook() as server:
        assert run_cell("print(6 * 7)") == "42\n"
        status, body = ask("PUT", "/api/contents/new.txt", content)
        assert status >= 400, f"a save into a full home was answered with {status}"
        assert ask("GET", "/api/contents")[0] == 200 and server.poll() is None
        assert ask("DELETE", f"/api/contents/{free.name}")[0] == 204, "what fills the home cannot be deleted"
        status, body = ask("PUT", "/api/contents/new.txt", content)
        assert status in (200, 201), (status, body)


def full_home() -> None:
    fill(HOME / "large.bin")
    works_while_full(HOME / "large.bin")


def home_without_inodes() -> None:
    folder = HOME / "many"
    folder.mkdir()
    with contextlib.suppress(OSError):
        for number in range(1000):
            (folder / str(number)).write_text("")
    works_while_full(folder)


def no_token() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CUBICLE_TOKEN"}
    ended = subprocess.run(LAUNCH, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and "CUBICLE_TOKEN" in ended.stderr, (ended.returncode, ended.stderr)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
