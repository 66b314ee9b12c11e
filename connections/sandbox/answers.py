"""What a handler may give back: an ordinary answer, a stream of chunks, or bytes of its own on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from connections.sandbox.wire import Wire


class Refusal(Exception):
    """Ends a request with an error status and the reason; the message never quotes a credential."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, sent in one piece with its true length."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose chunks are made while they are sent: chunked, or of a declared length in bytes."""

    chunks: Iterable[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes and pauses of the handler's own, after which the connection is closed."""

    play: Callable[[Wire], None]


Reply = Answer | Stream | Raw


def answer_json(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(data, separators=(",", ":")).encode("ascii"), headers or {})


def answer_error(refusal: Refusal) -> Answer:
    error = {"error": {"code": refusal.code, "message": refusal.message}}
    return answer_json(error, refusal.status, refusal.headers)


def render_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """The status line and header block as they go over the wire."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unnamed"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")
