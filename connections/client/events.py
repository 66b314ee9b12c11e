"""What a client tells those who watch it: requests with every credential blacked out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from connections.client.outgoing import Outgoing

__all__ = ["REDACTED", "Event", "Listener", "RedactedRequest", "is_telling", "redact"]

REDACTED = "[redacted]"

_TELLING = re.compile(r"auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE)
_HARMLESS = frozenset(("idempotency-key",))


@dataclass(frozen=True, slots=True)
class RedactedRequest:
    """A request that may be shown: no credential in URL or headers, and of the body only its length."""

    method: str
    url: str
    headers: Mapping[str, str]
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a call.

    ``attempt``: a request is about to be sent. ``redirect``: the same, after a redirect. ``answer``: it was answered
    with ``status`` after ``seconds``. ``failure``: it was not, or with an error, for ``reason``. ``wait``: the client
    waits for ``seconds`` because of ``reason`` (``rate_limit`` or an error's code). ``refresh``: the credential is
    renewed. ``outcome``: the call has ended after ``seconds``, with ``status`` or with the error whose code is
    ``reason``; it comes once for every call that could be composed, whatever became of it.
    """

    kind: Literal["attempt", "redirect", "answer", "failure", "wait", "refresh", "outcome"]
    request_id: str
    attempt: int
    seconds: float = 0.0
    status: int | None = None
    reason: str = ""
    request: RedactedRequest | None = field(default=None)


Listener = Callable[[Event], None]


def is_telling(name: str) -> bool:
    """Tell whether a header or a field sounds like a credential by its name."""
    return bool(_TELLING.search(name)) and name.lower() not in _HARMLESS


def redact(unsigned: Outgoing, signed: Outgoing) -> RedactedRequest:
    """Black out what signing added, and whatever of the caller's sounds like a credential by its name."""
    before = unsigned.headers.as_dict()
    headers = {}
    for name, value in signed.headers.as_dict().items():
        is_secret = before.get(name) != value or is_telling(name)
        headers[name] = REDACTED if is_secret else value
    path, mark, query = signed.target.partition("?")
    known = set(unsigned.target.partition("?")[2].split("&"))
    pairs = [_redact_pair(pair, is_known=pair in known) for pair in query.split("&")] if mark else []
    return RedactedRequest(
        method=signed.method,
        url=f"{signed.origin}{path}{mark}{'&'.join(pairs)}",
        headers=headers,
        body_bytes=(signed.upload.length or 0) if signed.upload else len(signed.body or b""),
    )


def _redact_pair(pair: str, *, is_known: bool) -> str:
    name, equals, _ = pair.partition("=")
    return pair if is_known and not _TELLING.search(name) else f"{name}{equals}{REDACTED}"
