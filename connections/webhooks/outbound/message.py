"""One message: what is sent, signed, and what is answered."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from urllib.parse import urlsplit

import structlog
from django.utils import timezone

from connections.webhooks.outbound.signing import Signer
from connections.wire.retry_after import parse_retry_after
from external_apis.errors import ApiManagerError
from external_apis.json_output import timestamp
from external_apis.models import OutboxEvent
from external_apis.transport import MAX_STREAM_BYTES, Origin, StreamedBody, shared_transport

__all__ = ["ANSWER_SECONDS", "KEPT_BYTES", "Outcome", "body_of", "send"]

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 15.0
"""From the connecting to the end of the answer's head."""

KEPT_BYTES = 2_048
"""How much of an answer is kept."""

# Read and thrown away, so that the connection can be used again; whoever takes his time with it is not waited for.
_READ_BYTES = 16_384
_BODY_SECONDS = 1.0

_HEADERS = {"Content-Type": "application/json", "Accept": "*/*", "User-Agent": "external-api-manager"}


@dataclass(slots=True)
class Outcome:
    """What came of sending: an answer with its status, or why there was none in ``error``.

    ``answer`` is the first part of its body; it is not for logs.
    """

    sent_at: datetime
    duration_ms: int = 0
    status: int | None = None
    error: str = ""
    answer: str = field(default="", repr=False)
    retry_after_seconds: float | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver says that it does not want to be told any more."""
        return self.status == 410


def body_of(event: OutboxEvent) -> str:
    """Return the JSON that tells of an event; each time the same."""
    told = {"type": event.type, "timestamp": timestamp(event.at), "data": event.data}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def send(url: str, event: OutboxEvent, signer: Signer) -> Outcome:
    """Tell of an event through the egress guard and return what came of it; follows no redirect and raises nothing."""
    outcome, began = Outcome(timezone.now()), monotonic()
    try:
        body = body_of(event)
        _exchange(outcome, url, {**_HEADERS, **signer.headers(event.pk, outcome.sent_at, body)}, body.encode())
    except ApiManagerError as error:
        outcome.error = error.message[:300]
    except Exception as error:
        # One receiver's oddity must not end the sweep, which is for all.
        log.exception("a webhook could not be sent", message_id=event.pk)
        outcome.error = f"It could not be sent ({type(error).__name__})."
    outcome.duration_ms = round((monotonic() - began) * 1000)
    return outcome


def _exchange(outcome: Outcome, url: str, headers: dict[str, str], body: bytes) -> None:
    deadline = monotonic() + ANSWER_SECONDS
    answer = shared_transport().send(
        Origin.of(url),
        "POST",
        urlsplit(url).path or "/",
        headers,
        body,
        deadline=deadline,
        stream_deadline=deadline,
        max_body_bytes=MAX_STREAM_BYTES,
    )
    outcome.status = answer.status
    if not outcome.is_success:
        outcome.error = f"answered {answer.status}"
    if answer.status in (429, 503):
        outcome.retry_after_seconds = parse_retry_after(answer.headers.get("Retry-After"), outcome.sent_at.timestamp())
    assert answer.stream is not None  # noqa: S101 (asked for by its deadline)
    outcome.answer = _beginning_of(answer.stream).decode(errors="replace")


def _beginning_of(stream: StreamedBody) -> bytes:
    """Return what is kept of an answer; the head has decided, so that what goes wrong from then on does not matter."""
    read = b""
    stream.end_by(monotonic() + _BODY_SECONDS)
    with suppress(ApiManagerError):
        while len(read) < _READ_BYTES and not stream.is_over:
            piece = stream.read(_READ_BYTES - len(read))
            if not piece:
                break
            read += piece
    stream.close()
    return read[:KEPT_BYTES]
