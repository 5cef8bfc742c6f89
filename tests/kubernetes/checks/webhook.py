"""A mutating webhook, as a site's own machinery may have one: it changes what the controller asks for.

Started by `start`, it runs in the cluster's network namespace as a program of its own:
webhook.py FOLDER PORT serves https with FOLDER/cert.pem and FOLDER/key.pem and patches objects as
FOLDER/patches.json says: kind -> JSON Patch (RFC 6902).
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "cluster/cluster"

PORT = 9443
ADDRESS = "192.168.61.1"
NAME = "meddler"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers AdmissionReviews (admission.k8s.io/v1)."""

    folder: Path

    def log_message(self, *_) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        """One review."""
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        patches = json.loads((self.folder / "patches.json").read_text())
        answer = {"uid": request["uid"], "allowed": True}
        wanted = patches.get(request["kind"]["kind"], [])
        # Nothing can be taken away that is not there: the whole patch would fail.
        patch = [one for one in wanted if one["op"] != "remove" or _is_there(request["object"], one["path"])]
        if patch:
            answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _is_there(value: object, path: str) -> bool:
    for part in path.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


class Webhook:
    """The running webhook and its registration; a context manager."""

    def __init__(self, trial, folder: Path) -> None:
        self.trial, self.folder = trial, folder
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Webhook:
        self.folder.mkdir(exist_ok=True)
        # A certificate that is its own authority.
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        made += ["-keyout", str(self.folder / "key.pem"), "-out", str(self.folder / "cert.pem")]
        made += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=IP:{ADDRESS}"]
        subprocess.run(made, check=True, capture_output=True)
        self.patch({})
        command = [PROGRAM, "exec", self.trial.name, "--", sys.executable, "-B", __file__]
        self.process = subprocess.Popen(
            [*command, str(self.folder), str(PORT)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._register()
        return self

    def __exit__(self, *_) -> None:
        self.trial.kubectl("delete", "mutatingwebhookconfiguration", NAME, "--ignore-not-found", accept=(0, 1))
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def patch(self, patches: dict[str, list[dict]]) -> None:
        """What happens from now on to objects in tenants' namespaces, by kind."""
        new = self.folder / "patches.new"
        new.write_text(json.dumps(patches))
        new.rename(self.folder / "patches.json")

    def _register(self) -> None:
        authority = base64.b64encode((self.folder / "cert.pem").read_bytes()).decode()
        tenants = {"matchExpressions": [{"key": "cubicle.dev/tenant", "operator": "Exists"}]}
        rule = {"apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "scope": "*"}
        hook = {
            "name": f"{NAME}.cubicle.test",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 5,
            "namespaceSelector": tenants,
            "clientConfig": {"url": f"https://{ADDRESS}:{PORT}/", "caBundle": authority},
            # Not the updates of pods: the kubelet's would be changed too.
            "rules": [
                rule | {"apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"]},
                rule | {"apiGroups": [""], "resources": ["namespaces"]},
            ],
        }
        self.trial.apply(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": NAME},
                "webhooks": [hook],
            }
        )
        # The API server takes a new webhook into use within a second.
        time.sleep(1.5)


def serve(folder: Path, port: int) -> None:
    """Answers until it is ended."""
    Handler.folder = folder
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = http.server.ThreadingHTTPServer(("", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
