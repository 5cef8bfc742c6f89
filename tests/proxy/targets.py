"""Servers that a proxy leads to: one that says what it was asked, also over WebSockets, and one that leads on."""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import socket
import socketserver
import ssl
import struct
import threading
from pathlib import Path

ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; a WebSocket is greeted, and hears the same for each message."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket" and self.server.websockets:
            return self.websocket()
        if self.server.leads_to:
            self.send_response(301)
            self.send_header("Location", self.server.leads_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self.say(self.server.says(self) if self.server.says else json.dumps(self.told()))

    def told(self) -> dict:
        return {"name": self.server.name, "url": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}

    def say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def websocket(self) -> None:
        accept = base64.b64encode(hashlib.sha1((self.headers["Sec-WebSocket-Key"] + ACCEPT).encode()).digest()).decode()
        self.close_connection = True
        self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        send(self.wfile, "connected")
        while (text := receive(self.rfile)) is not None:
            send(self.wfile, json.dumps({**self.told(), "message": text}))

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "-"


def send(stream, text: str, masked: bool = False) -> None:
    """One text frame of fewer than 64 KiB (RFC 6455, 5.2)."""
    data = text.encode()
    length = bytes([len(data)]) if len(data) < 126 else bytes([126]) + struct.pack(">H", len(data))
    if masked:
        mask = os.urandom(4)
        data = mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        length = bytes([length[0] | 0x80]) + length[1:]
    stream.write(b"\x81" + length + data)
    stream.flush()


def receive(stream) -> str | None:
    """The text of one frame; none at the end."""
    head = stream.read(2)
    if len(head) < 2 or head[0] & 0x0F != 1:
        return None
    length = head[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", stream.read(2))
    mask = stream.read(4) if head[1] & 0x80 else bytes(4)
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(stream.read(length))).decode()


class Target(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A server on a port of its own, or on a Unix socket."""

    daemon_threads = True

    def __init__(self, name: str, path: Path | None = None, websockets: bool = True, leads_to: str = "", says=None, tls: ssl.SSLContext | None = None) -> None:
        self.name, self.websockets, self.leads_to, self.says = name, websockets, leads_to, says
        if path:
            self.address_family = socket.AF_UNIX
        super().__init__(str(path) if path else ("127.0.0.1", 0), Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.url = f"http+unix://{str(path).replace('/', '%2F')}" if path else f"{scheme}://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 0


@contextlib.contextmanager
def websocket(address: tuple[str, int] | str, path: str):
    """A client's WebSocket: the stream, or the status of an answer that is not 101."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(address)
        stream = client.makefile("rwb")
        key = base64.b64encode(os.urandom(16)).decode()
        stream.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        stream.flush()
        status = int(stream.readline().split()[1])
        while stream.readline() not in (b"\r\n", b""):
            pass
        yield stream if status == 101 else status
