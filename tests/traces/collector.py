"""A receiver of OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/): decodes what comes with the
specification's own messages, and prints a span per line as JSON.

    collector.py ADDRESS:PORT FILE [silent]     FILE gets the bytes as they came; a silent one accepts and never answers
"""

import http.server
import json
import sys
import threading
import time

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.trace.v1 import trace_pb2 as messages

(ADDRESS, PORT), FILE = sys.argv[1].rsplit(":", 1), sys.argv[2]
SILENT = sys.argv[3:] == ["silent"]
WRITING = threading.Lock()


def attributes(pairs) -> dict:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind in ("string_value", "bool_value", "int_value", "double_value") else str(pair.value)
    return found


def spans(request) -> list[dict]:
    found = []
    for resource in request.resource_spans:
        told = attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                found.append({
                    "service": told.get("service.name"), "resource": told,
                    "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "name": span.name, "kind": messages.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    "start": span.start_time_unix_nano, "end": span.end_time_unix_nano,
                    "attributes": attributes(span.attributes),
                    "status": messages.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").lower(),
                    "reason": span.status.message,
                    "links": [link.trace_id.hex() for link in span.links],
                })
    return found


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if SILENT:
            time.sleep(3600)
        well = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
        lines = "".join(json.dumps(span) + "\n" for span in spans(service.ExportTraceServiceRequest.FromString(body)))
        # Engine, hub and controller tell at the same time, each to a thread of this; a line must stay one.
        with WRITING:
            with open(FILE, "ab") as file:
                file.write(body)
            sys.stdout.write(lines)
            sys.stdout.flush()
        answer = service.ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if well else 400)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


Server((ADDRESS, int(PORT)), Receiver).serve_forever()
