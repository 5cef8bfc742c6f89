#!/usr/bin/env python3
"""A data commons' own hatchery.json: every setting of it is told, and what came of it launches by Hatchery's contract.

    imported.py PORTAL TOKEN PROGRAM [IMAGE]      IMAGE stands for those of the file [jupyterlab]

commons.json is that of a public Gen3 commons (uc-cdis/cdis-manifest at 01a856908b3e,
accessclinicaldata.niaid.nih.gov/manifests/hatchery/hatchery.json) with other names of hosts and without the script of
`lifecycle-post-start`: no registry is asked, so an image that is there takes the place of those that it names.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import requests

PORTAL, TOKEN, PROGRAM, *more = sys.argv[1:]
IMAGE = more[0] if more else "jupyterlab"
BASE = PORTAL + "/lw-workspace/"
FILE = Path(__file__).with_name("commons.json")
NAME = "Jupyter (Python 3.9.5, R 4.1.0)"
PATIENCE = 600
wrong = []


def check(truth, what, seen=""):
    print("ok" if truth else "NOT OK", what + ("" if truth else f": {seen!r}"))
    if not truth:
        wrong.append(what)


def run(*arguments, accept=(0,), given=None):
    done = subprocess.run([PROGRAM, *arguments], input=given, capture_output=True, text=True, timeout=120)
    check(done.returncode in accept, f"cubicle {' '.join(arguments[:2])} ends with {done.returncode}", done.stderr)
    return done.stdout


def ask(method, path, **more):
    headers = {"Authorization": f"bearer {TOKEN}"}
    return requests.request(method, BASE + path, headers=headers, allow_redirects=False, timeout=60, **more)


def state():
    return ask("GET", "status").json()["status"]


# === every setting is told ===

given = json.loads(FILE.read_text())
# 1: its sidecar is privileged, and refused by name.
imported = json.loads(run("import", "hatchery", str(FILE), "--format", "json", accept=(1,)))
told = {setting["key"]: setting for setting in imported["settings"]}
keys = [key for key in given if key != "containers"] + [f"sidecar.{key}" for key in given["sidecar"] if key != "image"]
keys += [f"containers[{at}].{key}" for at, container in enumerate(given["containers"]) for key in container]
for key in keys:
    check(key in told, f"{key} is told")
lines = FILE.read_text().splitlines()
for key, setting in told.items():
    name = key.split(" ")[0].rpartition(".")[2]
    check(f'"{name}"' in lines[setting["line"] - 1], f"{key} is in the line that is named", setting)
outcomes = {setting["outcome"] for setting in told.values()}
refused = sorted(key for key, setting in told.items() if setting["outcome"] == "refused")
check(refused == ["sidecar", "sidecar (mount /data)"], "nothing but the sidecar is refused", refused)
check(outcomes <= {"carried_over", "replaced", "refused"}, "each has one of three outcomes", outcomes)
silent = [key for key, setting in told.items() if setting["outcome"] != "carried_over" and not setting["why"]]
check(not silent, "what is not carried over has a reason", silent)

# === what came of it is offered, and launches ===

templates = imported["templates"]
names = [template["metadata"]["name"] for template in templates]


def documents():
    return "\n---\n".join(json.dumps(template) for template in templates)


# An image that is not there is no template.
run("template", "apply", "-f", "-", accept=(4,), given=documents())
for template in templates:
    template["spec"]["image"] = IMAGE
run("template", "apply", "-f", "-", given=documents())
options = {option["name"]: option for option in ask("GET", "options").json()}
check({container["name"] for container in given["containers"]} <= options.keys(), "every container is offered", list(options))
for container in given["containers"]:
    option = options.get(container["name"], {})
    sizes = (option.get("cpu-limit"), option.get("memory-limit"))
    check(float(sizes[0] or 0) == float(container["cpu-limit"]), f"{container['name']} has its processors", sizes)
launched = ask("POST", f"launch?id={options[NAME]['id']}")
check((launched.status_code, launched.text) == (200, "Success"), f"launch of {NAME}", launched.text)
began = time.monotonic()
while state() != "Running" and time.monotonic() - began < PATIENCE:
    if state() in ("Stopped", "Errored"):
        break
    time.sleep(0.2)
check(state() == "Running", "status until Running", ask("GET", "status").text)
lab = ask("GET", "proxy/lab")
check(lab.status_code == 200 and "/lw-workspace/proxy/" in lab.text, "JupyterLab answers below its path", lab.status_code)
ended = ask("POST", "terminate")
check((ended.status_code, ended.text) == (200, "Terminated workspace"), "terminate", ended.text)
while state() != "Not Found" and time.monotonic() - began < PATIENCE:
    time.sleep(0.2)
for name in names:
    run("template", "delete", name)

print("imported: ok" if not wrong else f"imported: {len(wrong)} findings")
sys.exit(bool(wrong))
