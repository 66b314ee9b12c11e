"""A small OTLP/HTTP collector for tests: takes spans on a socket of its own and keeps them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver:
    """``raw`` is what came, byte for byte, headers included."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.paths: list[str] = []
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.url = ""

    def take(self, path: str, headers: str, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.paths.append(path)
        self.raw.append(headers.encode() + body)
        for group in request.resource_spans:
            self.resources.append(values_of(group.resource.attributes))
            self.spans += [span for scope in group.scope_spans for span in scope.spans]


def values_of(attributes: Any) -> dict[str, Any]:
    """Return attributes as plain values."""
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in attributes}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port for the time of the block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.take(self.path, str(self.headers), body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
