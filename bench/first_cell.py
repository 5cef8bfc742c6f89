"""The first cell of a notebook: a kernel is started, and evaluates an expression."""

import json
import sys
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

from environments import environment

HERE = Path(__file__).resolve().parent
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
sys.path.append(str(environment(HERE / "requirements.txt").parent / "lib" / VERSION / "site-packages"))
import websocket  # noqa: E402


def execute_first_cell(post: Callable[[str, dict], dict], connect: Callable[[str], websocket.WebSocket]) -> None:
    """Until the result is there. `post` sends a value and returns the answer's, `connect` opens a WebSocket."""
    kernel = post("/api/kernels", {"name": "python3"})["id"]
    channels = connect(f"/api/kernels/{kernel}/channels")
    try:
        asked = uuid.uuid4().hex
        header = {"msg_id": asked, "msg_type": "execute_request", "session": asked, "username": "", "version": "5.3"}
        content = {"code": "6 * 7", "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        channels.send(json.dumps(message))
        while True:
            answer = json.loads(channels.recv())
            if answer["parent_header"].get("msg_id") == asked and answer["header"]["msg_type"] == "execute_result":
                break
        if answer["content"]["data"]["text/plain"] != "42":
            raise ValueError(f"6 * 7 is {answer['content']}")
    finally:
        channels.close()


def execute_at_workspace(person, page: str, url: str, **options) -> None:
    """At the origin of the workspace that `page` is of, as its JupyterLab does. `url` and `options` are those with which
    a WebSocket reaches the hub."""
    parts = urllib.parse.urlsplit(page)
    origin = f"{parts.scheme}://{parts.netloc}"

    def post(path: str, value: dict) -> dict:
        made = person.ask("POST", f"{origin}{path}", json.dumps(value), accept="application/json", content_type="application/json",
                          sec_fetch_site="same-origin", sec_fetch_mode="cors", sec_fetch_dest="empty")
        if made.status != 201:
            raise ValueError(f"{path}: {made.status} {made.text}")
        return made.json()

    def connect(path: str) -> websocket.WebSocket:
        cookies = "; ".join(f"{name}={value}" for name, value in person.jars[parts.hostname].items())
        return websocket.create_connection(f"{url}{path}", timeout=60, host=parts.netloc, origin=origin, cookie=cookies, **options)

    execute_first_cell(post, connect)


def execute_at_server(address: str, token: str) -> None:
    """At a notebook server that stands by itself."""
    header = {"authorization": f"token {token}"}

    def post(path: str, value: dict) -> dict:
        headers = {"content-type": "application/json", **header}
        asked = urllib.request.Request(f"http://{address}{path}", json.dumps(value).encode(), headers, method="POST")
        return json.loads(urllib.request.urlopen(asked, timeout=60).read())

    def connect(path: str) -> websocket.WebSocket:
        return websocket.create_connection(f"ws://{address}{path}", timeout=60, header=header)

    execute_first_cell(post, connect)
