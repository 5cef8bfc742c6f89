"""An authority that speaks ACME (pebble), and the DNS that it asks (challtestsrv). Both listen on loopback, and ask nobody
else."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster" / "source"))
import parts  # noqa: E402
from product import check, free_port, wait_for  # noqa: E402

# A customer's key, as pebble wants it: base64url.
CUSTOMER, CUSTOMER_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def programs() -> Path:
    """The folder with both, built when it is not there."""
    parts.build(["pebble"], lambda text: print(text, flush=True))
    return parts.BY_NAME["pebble"].built()


def listens(port: int) -> bool:
    with socket.socket() as stream:
        return stream.connect_ex(("127.0.0.1", port)) == 0


class Dns:
    """A DNS server that says what it was told."""

    def __init__(self, log: Path):
        self.port, management = free_port(), free_port()
        self.management = f"http://127.0.0.1:{management}"
        off = [word for name in ("http01", "https01", "tlsalpn01", "doh") for word in (f"-{name}", "")]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [programs() / "pebble-challtestsrv", *off, "-dnsserver", f"127.0.0.1:{self.port}", "-management", f"127.0.0.1:{management}"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )
        wait_for("a DNS that listens", lambda: listens(management))

    def texts(self, name: str) -> list[str]:
        """All TXT records of a name (RFC 1035)."""
        question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0" + struct.pack(">HH", 16, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.settimeout(5)
            stream.sendto(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + question, ("127.0.0.1", self.port))
            answer = stream.recv(4096)
        count, at, found = struct.unpack(">H", answer[6:8])[0], 12 + len(question), []
        for _ in range(count):
            while answer[at] not in (0, *range(0xC0, 0x100)):
                at += answer[at] + 1
            at += 1 if answer[at] == 0 else 2
            length = struct.unpack(">H", answer[at + 8:at + 10])[0]
            found.append(answer[at + 11:at + 10 + length].decode())
            at += 10 + length
        return found

    def __enter__(self) -> "Dns":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()


class Authority:
    """One authority. Its accounts and certificates are gone when it ends."""

    def __init__(self, folder: Path, dns: Dns, lifetime: int = 90 * 86400, customers: bool = False, rejected: int = 0):
        """`lifetime` of its certificates in seconds; `customers` alone may have an account; it rejects so many of a hundred
        good nonces."""
        folder.mkdir()
        self.folder, self.dns, self.rejected = folder, dns, rejected
        self.port, self.management = free_port(), free_port()
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        self.roots = folder / "roots.pem"
        self.log = folder / "log"
        key = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        root = [*key, "-subj", "/CN=root of a test", "-keyout", folder / "root.key", "-out", self.roots]
        own = [*key, "-subj", "/CN=authority of a test", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
               "-CA", self.roots, "-CAkey", folder / "root.key", "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
        for command in (root, own):
            subprocess.run(command, check=True, capture_output=True)
        self.config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(folder / "certificate.pem"), "privateKey": str(folder / "key.pem"),
            "httpPort": free_port(), "tlsPort": free_port(), "ocspResponderURL": "",
            "externalAccountBindingRequired": customers,
            "externalAccountMACKeys": {CUSTOMER: CUSTOMER_KEY} if customers else {},
            "domainBlocklist": ["refused.test"],
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": {"default": {"description": "of this test", "validityPeriod": lifetime}},
        }
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        (self.folder / "config.json").write_text(json.dumps({"pebble": self.config}))
        surroundings = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": str(self.rejected)}
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [programs() / "pebble", "-config", self.folder / "config.json", "-dnsserver", f"127.0.0.1:{self.dns.port}", "-strict=true"],
                env=surroundings, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )
        wait_for("an authority that listens", lambda: listens(self.port) and listens(self.management))

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> "Authority":
        return self

    def __exit__(self, *_) -> None:
        self.end()

    def asked(self) -> int:
        """How many requests it has had."""
        return len(re.findall(r"(?:GET|HEAD|POST) /", self.log.read_text()))

    def _manage(self, path: str, body: bytes | None = None) -> bytes:
        trusted = ssl.create_default_context(cafile=self.roots)
        with urllib.request.urlopen(urllib.request.Request(f"https://127.0.0.1:{self.management}/{path}", body), context=trusted, timeout=10) as answer:
            return answer.read()

    def trust(self) -> ssl.SSLContext:
        """Whoever trusts what it signs."""
        return ssl.create_default_context(cadata=self._manage("roots/0").decode())

    def replace_at_once(self, certificate: str) -> None:
        """Wants this certificate replaced since yesterday (RFC 9773, section 4.2)."""
        window = {"suggestedWindow": {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}}
        self._manage("set-renewal-info/", json.dumps({"Certificate": certificate, "ARIResponse": json.dumps(window)}).encode())


def connect(port: int, name: str, trust: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection to the hub by one of its names."""
    return trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=name)


def shown(port: int, name: str, trust: ssl.SSLContext) -> str:
    """The certificate that it shows, in PEM."""
    with connect(port, name, trust) as stream:
        return ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True))


def ask(stream: ssl.SSLSocket, name: str) -> int:
    """The status of one request on a connection that stays."""
    stream.sendall(f"GET /healthz HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        part = stream.recv(4096)
        check(part, f"the connection ended: {head!r}")
        head += part
    body = head.split(b"\r\n\r\n", 1)[1]
    length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
    while len(body) < length:
        body += stream.recv(4096)
    return int(head.split()[1])


