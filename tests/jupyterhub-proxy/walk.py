"""A JupyterHub with our proxy, and people who use it: sign-in, a server of their own, a kernel, and an end.

    walk.py PROGRAM LOG     configurable-http-proxy on PATH is PROGRAM
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import aiohttp
from yarl import URL

TOKEN = "only-for-this-test"
PEOPLE = 2
CONFIGURATION = f"""
c.JupyterHub.bind_url = "http://localhost:PUBLIC"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = HUB
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.services = [dict(name="test", api_token="{TOKEN}", admin=True)]
c.Authenticator.allow_all = True
c.Authenticator.allowed_users = set()
c.DummyAuthenticator.password = "hello"
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = 240
c.Spawner.http_timeout = 240
c.ConfigurableHTTPProxy.api_url = "http://localhost:API"
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def check(what: str, condition: object) -> None:
    if not condition:
        raise SystemExit(f"not so: {what}")
    print(f"ok  {what}", flush=True)


async def execute(session: aiohttp.ClientSession, kernel: str, code: str) -> str:
    """What code shows, by way of the kernel's WebSocket."""
    async with session.ws_connect(f"{kernel}/channels") as channel:
        message = uuid.uuid4().hex
        header = {"msg_id": message, "username": "x", "session": message, "msg_type": "execute_request", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        await channel.send_json({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"})
        async for part in channel:
            answer = json.loads(part.data)
            if answer["parent_header"].get("msg_id") == message and answer["msg_type"] == "execute_result":
                return answer["content"]["data"]["text/plain"]
    return "nothing"


async def person(name: str, site: str) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=240)) as session:
        await session.get(f"{site}/hub/login")
        xsrf = session.cookie_jar.filter_cookies(URL(f"{site}/hub/"))["_xsrf"].value
        form = {"username": name, "password": "hello", "_xsrf": xsrf}
        async with session.post(f"{site}/hub/login?next=%2Fhub%2Fhome", data=form) as answer:
            check(f"{name} is signed in", (answer.status, answer.url.path) == (200, "/hub/home"))
        deadline = time.monotonic() + 240
        while True:
            async with session.get(f"{site}/hub/spawn") as answer:
                if answer.url.path == f"/user/{name}/lab":
                    break
            if time.monotonic() > deadline:
                raise SystemExit(f"{name}'s server did not start")
            await asyncio.sleep(1)
        check(f"{name} is led to a server", answer.status == 200)
        mine = f"{site}/user/{name}"
        headers = {"X-XSRFToken": session.cookie_jar.filter_cookies(URL(f"{mine}/"))["_xsrf"].value, "Referer": f"{mine}/lab"}
        async with session.post(f"{mine}/api/kernels", headers=headers) as answer:
            check(f"{name} has a kernel", answer.status == 201)
            kernel = f"{mine}/api/kernels/{(await answer.json())['id']}"
        check(f"{name}'s kernel counts", await execute(session, kernel, "6 * 7") == "42")
        async with session.delete(kernel, headers=headers) as answer:
            check(f"{name}'s kernel ends", answer.status == 204)


async def walk(site: str, api: str, proxy_token: str) -> None:
    await asyncio.gather(*(person(f"person-{number}", site) for number in range(PEOPLE)))
    async with aiohttp.ClientSession() as session:
        async def routes() -> set[str]:
            async with session.get(f"{api}/api/routes", headers={"Authorization": f"token {proxy_token}"}) as answer:
                return set(await answer.json())

        check("each has a route", await routes() == {"/", *(f"/user/person-{number}" for number in range(PEOPLE))})
        stop = f"{site}/hub/api/users/person-0/server"
        async with session.delete(stop, headers={"Authorization": f"token {TOKEN}"}) as answer:
            check("a server is stopped", answer.status in (202, 204))
        for _ in range(300):
            if "/user/person-0" not in await routes():
                break
            await asyncio.sleep(0.1)
        check("and its route is gone, the other's is not", await routes() == {"/", "/user/person-1"})


def hubtraf(site: str, log: Path) -> None:
    folder = os.environ.get("CUBICLE_HUBTRAF")
    if not folder:
        print("NOT CHECKED: the client hubtraf, which no package index has; set CUBICLE_HUBTRAF to a checkout of it")
        return
    times = ["--user-session-min-runtime", "1", "--user-session-max-runtime", "2", "--user-session-max-start-delay", "1"]
    command = [sys.executable, "-W", "ignore", "-m", "hubtraf.simulate", site, str(PEOPLE), "--user-prefix", "hubtraf", *times]
    told = subprocess.run(command, env={**os.environ, "PYTHONPATH": folder}, stdout=subprocess.PIPE, text=True, timeout=300).stdout
    log.write_text(told)
    check("hubtraf: login, server, kernel, code", f"Counter({{'completed': {PEOPLE}}})" in told)


def main() -> None:
    program, log = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    public, api, hub = free_port(), free_port(), free_port()
    text = CONFIGURATION.replace("PUBLIC", str(public)).replace("API", str(api)).replace("HUB", str(hub))
    Path("jupyterhub_config.py").write_text(text)
    proxy_token = uuid.uuid4().hex
    environment = {**os.environ, "CONFIGPROXY_AUTH_TOKEN": proxy_token, "JUPYTERHUB_CRYPT_KEY": uuid.uuid4().hex * 2}
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, "-m", "jupyterhub"], env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while "JupyterHub is now running" not in log.read_text():
            if time.monotonic() > deadline or server.poll() is not None:
                raise SystemExit(f"JupyterHub does not start, see {log}")
            time.sleep(0.2)
        pid = Path("jupyterhub-proxy.pid").read_text().strip()
        check("the hub's proxy is our program", Path(f"/proc/{pid}/exe").resolve() == program)
        asyncio.run(walk(f"http://localhost:{public}", f"http://localhost:{api}", proxy_token))
        hubtraf(f"http://localhost:{public}", log.with_name("hubtraf.log"))
    finally:
        # The hub takes its proxy and the servers with it.
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        finally:
            try:
                os.killpg(server.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


if __name__ == "__main__":
    main()
