"""A receiver over a real socket, which answers as a test tells it and checks nothing by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.db import transaction

from connections.models import WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound import endpoints, replays
from external_apis import outbox
from external_apis.models import OutboxEvent


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: str

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])


@dataclass
class Reply:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    release: threading.Event | None = None
    """The answer waits for it."""


class Receiver:
    """``reply`` says how a request is answered; ``received`` is what came."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.reply: Callable[[Received], Reply] = lambda _: Reply()
        self.most_at_a_time = 0
        self._now = 0
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                came = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                with receiver._lock:
                    receiver.received.append(came)
                    receiver._now += 1
                    receiver.most_at_a_time = max(receiver.most_at_a_time, receiver._now)
                reply = receiver.reply(came)
                if reply.release is not None:
                    reply.release.wait(20)
                with receiver._lock:
                    receiver._now -= 1
                with suppress(OSError):  # whoever asked may be gone
                    self.send_response(reply.status)
                    for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body)

            def do_GET(self) -> None:
                receiver.received.append(Received(f"GET {self.path}", {}, ""))
                self.send_error(500)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def types(self) -> list[str]:
        return [came.type for came in self.received]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def make_delivery(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """An event that was written and fanned out for this endpoint, and waits to be sent."""
    return replays.send_test(endpoint)


def make_endpoint(receiver: Receiver | None, *events: str, **fields: Any) -> WebhookEndpoint:
    """A stored endpoint, told of everything unless ``events`` say otherwise; ``tenant`` may be given as a row."""
    if (tenant := fields.pop("tenant", None)) is not None:
        fields["tenant_id"] = tenant.pk
    url = receiver.url if receiver else "https://hooks.example.com/in"
    return endpoints.create({"url": url, "events": list(events) or ["*"], **fields}).endpoint


def tell(
    count: int = 1, event_type: str = "grant.expired", tenant_id: str | None = None, **data: Any
) -> list[OutboxEvent]:
    """Write so many events."""
    with transaction.atomic():
        events = [outbox.build(event_type, {"number": number, **data}, tenant_id=tenant_id) for number in range(count)]
        outbox.write(events)
    return events


def answer(status: int, **headers: str) -> Callable[[Received], Reply]:
    """Return what answers each request alike."""
    body = b"" if status == 304 else b"said so"  # which has none
    return lambda _: Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
