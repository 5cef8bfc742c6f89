"""The first cell of a notebook: a kernel is started, and evaluates an expression."""

import json
import sys
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
