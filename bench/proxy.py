"""`cubicle proxy` against configurable-http-proxy and nginx, in turn in one run, in front of one nginx
with one worker. Requests per second and milliseconds from wrk; a row names its peer.

The peers have what they are best with: nginx one worker per core and connections kept to its target, both
no log of requests. Ours writes its routes to a file, as a site would have it.
"""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from product import PROGRAMS, free_port, wait_for

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("CUBICLE_CACHE", "/var/cache/cubicle")) / "bench"
CHP = "5.3.0"
DEBIAN = ["nginx", "wrk", "luajit", "libluajit-5.1-2", "libluajit-5.1-common"]
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = 3
ROUTES = [1, 1_000, 10_000]
ABORTED = 10_000
ECHOES = 2_000
TOKEN = "only-for-this-bench"
LARGE = 1 << 20

# What wrk asks, and one line of JSON at its end.
REQUESTS = """
local routes = tonumber(os.getenv("BENCH_ROUTES"))
local large = os.getenv("BENCH_LARGE")
request = function()
  if large then return wrk.format("GET", "/file/") end
  return wrk.format("GET", "/user/" .. math.random(routes) .. "/api")
end
"""
CHURN = """
local number = 0
wrk.headers["Authorization"] = "token " .. os.getenv("BENCH_TOKEN")
local body = '{"target": "' .. os.getenv("BENCH_TARGET") .. '", "user": "somebody", "jupyterhub": true}'
request = function()
  number = number + 1
  if number % 2 == 1 then return wrk.format("POST", "/api/routes/churn/" .. number, nil, body) end
  return wrk.format(os.getenv("BENCH_SECOND"), "/api/routes/churn/" .. (number - 1), nil, body)
end
"""
DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests": %d, "rate": %.1f, "p50": %.4f, "p99": %.4f, "errors": %d}\\n',
    summary.requests, summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def tools() -> tuple[Path, Path, Path]:
    """wrk, nginx and configurable-http-proxy, unpacked once and not installed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root, chp = CACHE / "root", CACHE / f"chp-{CHP}"
        if not (root / "complete").exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                subprocess.run(["apt-get", "download", *DEBIAN], cwd=folder, check=True, capture_output=True)
                for package in Path(folder).glob("*.deb"):
                    subprocess.run(["dpkg", "-x", package, root], check=True)
            (root / "complete").touch()
        if not (chp / "complete").exists():
            chp.mkdir(exist_ok=True)
            subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", f"configurable-http-proxy@{CHP}"], cwd=chp, check=True)
            (chp / "complete").touch()
    return root / "usr/bin/wrk", root / "usr/sbin/nginx", chp / "node_modules/.bin/configurable-http-proxy"


class Bench:
    """The target, the three proxies in front of it, and wrk."""

    def __init__(self, folder: Path) -> None:
        self.folder, (self.wrk, self.nginx, self.chp) = folder, tools()
        self.processes: dict[str, subprocess.Popen] = {}
        self.small, self.file, self.echo = free_port(), free_port(), free_port()
        (folder / "large").write_bytes(os.urandom(LARGE))
        (folder / "requests.lua").write_text(REQUESTS + DONE)
        (folder / "churn.lua").write_text(CHURN + DONE)
        folder.chmod(0o755)

    def start(self, name: str, command: list, port: int) -> int:
        log = (self.folder / f"{name}.log").open("w")
        environment = {**os.environ, "CONFIGPROXY_AUTH_TOKEN": TOKEN}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self.processes[name] = process

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {Path(log.name).read_text()[-2000:]}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False

        wait_for(name, listens, 60)
        return process.pid

    def stop(self, *names: str) -> None:
        for name in names or list(self.processes):
            process = self.processes.pop(name)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def nginx_with(self, name: str, workers: str, servers: str, port: int) -> int:
        path = self.folder / f"{name}.conf"
        path.write_text(
            f"user root; daemon off; worker_processes {workers}; worker_rlimit_nofile 65536; pid {self.folder}/{name}.pid;\n"
            f"error_log {self.folder}/{name}.errors; events {{ worker_connections 8192; }}\n"
            f"http {{ access_log off; keepalive_requests 100000000; proxy_temp_path {self.folder}/proxied; client_body_temp_path {self.folder}/bodies;\n"
            f"fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;\n"
            f"tcp_nodelay on; sendfile on; {servers} }}\n"
        )
        command = [self.nginx, "-p", self.folder, "-e", self.folder / f"{name}.errors", "-c", path]
        return self.start(name, command, port)

    def targets(self) -> None:
        servers = (
            f'server {{ listen 127.0.0.1:{self.small}; location / {{ return 200 "a small answer, as a notebook\'s API gives it"; }} }}\n'
            f"server {{ listen 127.0.0.1:{self.file}; root {self.folder}; location / {{ rewrite ^ /large break; }} }}"
        )
        self.nginx_with("target", "1", servers, self.small)
        self.start("echo", [sys.executable, HERE / "websocket_echo.py", str(self.echo)], self.echo)

    def leads(self, routes: int) -> dict[str, int]:
        leads = {f"/user/{number}": self.small for number in range(1, routes + 1)}
        return {**leads, "/file": self.file, "/echo": self.echo}

    def proxies(self, routes: int) -> dict[str, int]:
        """Starts all three; their ports."""
        ports = {}
        for name, command in (("ours", [PROGRAMS / "cubicle", "proxy", "--routes", self.folder / f"routes-{routes}"]), ("CHP", [self.chp])):
            port, api = free_port(), free_port()
            self.start(name, [*command, "--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1", "--api-port", str(api), "--log-level", "error"], api)
            self.add(api, self.leads(routes))
            ports[name], ports[f"{name} API"] = port, api
        ports["nginx"] = free_port()
        places = "".join(
            f"location {path}/ {{ proxy_pass http://{ {self.small: 'small', self.file: 'file', self.echo: 'echo'}[target] }; }}\n" for path, target in self.leads(routes).items()
        )
        upstreams = "".join(
            f"upstream {name} {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 100000000; }}\n" for name, port in (("small", self.small), ("file", self.file), ("echo", self.echo))
        )
        headers = (
            "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_set_header Host $http_host;\n"
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port $server_port;\n"
            "proxy_max_temp_file_size 0;"
        )
        upgrade = 'map $http_upgrade $connection_upgrade { default upgrade; "" ""; }\n'
        self.nginx_with("nginx", "auto", f"{upgrade}{upstreams}server {{ listen 127.0.0.1:{ports['nginx']};\n{headers}\n{places} }}", ports["nginx"])
        return ports

    def add(self, api: int, leads: dict[str, int]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", api, timeout=60)
        for path, port in leads.items():
            body = json.dumps({"target": f"http://127.0.0.1:{port}", "user": "somebody", "jupyterhub": True})
            connection.request("POST", f"/api/routes{path}", body, {"Authorization": f"token {TOKEN}"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 201:
                raise RuntimeError(f"a route was not added: {answer.status}")

    def load(self, port: int, script: str, connections: int, **environment: str) -> dict:
        command = [self.wrk, "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "10s", "-s", self.folder / script, f"http://127.0.0.1:{port}"]
        libraries = str(CACHE / "root/usr/lib/x86_64-linux-gnu")
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "LD_LIBRARY_PATH": libraries, **environment})
        for line in told.stdout.splitlines():
            if line.startswith("RESULT "):
                result = json.loads(line.removeprefix("RESULT "))
                if result["errors"]:
                    raise RuntimeError(f"wrk: {result}: {told.stdout}")
                return result
        raise RuntimeError(f"wrk told nothing: {told.stdout} {told.stderr}")


def echoes(port: int) -> list[float]:
    """Round trips of a message over one WebSocket, in milliseconds."""
    client = socket.create_connection(("127.0.0.1", port), 20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(b"GET /echo/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    if not head.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"no WebSocket: {head[:80]}")
    frame = b"\x81\xa0" + bytes(4) + b"x" * 32
    times = []
    for _ in range(ECHOES):
        began = time.perf_counter()
        client.sendall(frame)
        left = len(frame)
        while left:
            left -= len(client.recv(left))
        times.append((time.perf_counter() - began) * 1000)
    client.close()
    return times


def held(pid: int) -> tuple[int, float]:
    """Open descriptors, and resident memory in MiB."""
    resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return len(os.listdir(f"/proc/{pid}/fd")), int(resident.split()[1]) / 1024


def spent(pid: int) -> float:
    """Processor seconds of a process and of those that it started, to the nanosecond."""
    processes = [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    threads = (thread for process in processes for thread in Path(f"/proc/{process}/task").iterdir())
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def abort(port: int, count: int) -> None:
    """Connections that end with a reset: at once, half-way through a request's head, in the middle of an answer."""
    for number in range(count):
        client = socket.create_connection(("127.0.0.1", port), 20)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 3 == 1:
            client.sendall(b"GET /file/ HTTP/1.1\r\nHost")
        elif number % 3 == 2:
            client.sendall(b"GET /file/ HTTP/1.1\r\nHost: a\r\n\r\n")
            client.recv(4096)
        client.close()


def after_aborts(port: int, pid: int) -> tuple[float, float]:
    """How many descriptors and MiB more there are after the aborted connections than before."""
    abort(port, ABORTED // 10)
    time.sleep(15)
    before = held(pid)
    abort(port, ABORTED)
    deadline = time.monotonic() + 20
    while held(pid)[0] > before[0] and time.monotonic() < deadline:
        time.sleep(0.5)
    after = held(pid)
    return after[0] - before[0], round(after[1] - before[1], 2)


def measure() -> tuple[list[dict], int]:
    """Rows of requests per second, latencies, round trips, churn and what aborted connections leave."""
    found: dict[tuple[str, str], list[float]] = {}

    def note(case: str, who: str, value: float) -> None:
        found.setdefault((case, who), []).append(value)
        print(f"{who}: {case}: {value}", file=sys.stderr, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="cubicle-bench-", dir="/var/tmp"))
    bench = Bench(folder)
    try:
        bench.targets()
        for routes in ROUTES:
            ports = bench.proxies(routes)
            for _ in range(ROUNDS):
                for connections in (1, 50):
                    for body in ("small", "1 MB") if routes == 1 else ("small",):
                        case = f"{body}, {routes} routes, {connections} connections"
                        for who in ("ours", "CHP", "nginx"):
                            large = {"BENCH_LARGE": "1"} if body == "1 MB" else {}
                            before = spent(bench.processes[who].pid)
                            result = bench.load(ports[who], "requests.lua", connections, BENCH_ROUTES=str(routes), **large)
                            used = (spent(bench.processes[who].pid) - before) * 1e6 / max(1, result["requests"])
                            note(f"requests/s: {case}", who, result["rate"])
                            note(f"p99 ms: {case}", who, result["p99"])
                            # What a busy machine does not change.
                            note(f"processor us per request: {case}", who, round(used, 2))
                if routes == 1:
                    note("requests/s: the target itself, 50 connections", "ours", bench.load(bench.small, "requests.lua", 50, BENCH_ROUTES="1")["rate"])
                    for who in ("ours", "CHP", "nginx"):
                        times = sorted(echoes(ports[who]))
                        note("WebSocket round trip, p50 ms", who, times[len(times) // 2])
                        note("WebSocket round trip, p99 ms", who, times[int(len(times) * 0.99)])
                if routes == 1_000:
                    for who in ("ours", "CHP"):
                        target = f"http://127.0.0.1:{bench.small}"
                        churn = {"BENCH_TOKEN": TOKEN, "BENCH_TARGET": target}
                        added = bench.load(ports[f"{who} API"], "churn.lua", 1, BENCH_SECOND="POST", **churn)
                        note("route add, p50 ms", who, added["p50"])
                        note("route add, p99 ms", who, added["p99"])
                        note("route add and delete, p99 ms", who, bench.load(ports[f"{who} API"], "churn.lua", 1, BENCH_SECOND="DELETE", **churn)["p99"])
            if routes == 1:
                for who in ("ours", "CHP"):
                    descriptors, memory = after_aborts(ports[who], bench.processes[who].pid)
                    note("descriptors more after 10,000 aborted connections", who, descriptors)
                    note("MiB more after 10,000 aborted connections", who, memory)
            bench.stop("ours", "CHP", "nginx")
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    cases = []
    for case in dict.fromkeys(case for case, _ in found):
        for peer in ("CHP", "nginx"):
            if (case, peer) in found:
                cases.append({"case": f"{case} (peer {peer})", "ours": found[case, "ours"], "peer": found[case, peer]})
        if (case, "CHP") not in found:
            cases.append({"case": case, "ours": found[case, "ours"]})
    return cases, ROUNDS
