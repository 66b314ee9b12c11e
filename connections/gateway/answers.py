"""A provider's answer as one of ours: status, header fields and body as they came."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from django.http import HttpResponse, StreamingHttpResponse

from connections.gateway.bodies import Relay
from connections.gateway.headers import passed_answer
from external_apis.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http.response import HttpResponseBase

    from connections.client.passage import PassedAnswer
    from connections.gateway.bodies import Audience

__all__ = ["gather", "headers_of", "relay", "respond", "stream", "stream_unheard"]

_Response = TypeVar("_Response", bound="HttpResponseBase")

_SHORT_BYTES = 64 * 1024
_PATIENCE_SECONDS = 0.2
_LAST_STATUS = 599


@dataclass(frozen=True, slots=True)
class _Leaving:
    """Nobody listens, but the call's place is given back."""

    on_end: Callable[[], None]

    def hear(self, piece: bytes) -> None: ...

    def end(self, *, is_whole: bool) -> None:
        self.on_end()


def relay(passed: PassedAnswer, on_end: Callable[[], None]) -> HttpResponseBase:
    """Return the answer, a short one whole; ``on_end`` is called once when its body has come or nobody wants it.

    Raises as reading does.
    """
    headers = headers_of(passed)
    content, is_whole = gather(passed)
    if not is_whole:
        return stream(passed, headers, _Leaving(on_end), beginning=content)
    passed.body.close()
    on_end()
    return respond(passed.status, headers, content)


def gather(passed: PassedAnswer) -> tuple[bytes, bool]:
    """Return the beginning of the body, and whether that is all of it; events and long bodies are not begun.

    One of unknown length is waited for a moment, because only an answer with a length can be told from one that was cut
    short. Raises as reading does, with the body closed.
    """
    body, content, until = passed.body, b"", monotonic() + _PATIENCE_SECONDS
    if (body.announced_bytes or 0) > _SHORT_BYTES or _is_event_stream(passed):
        return b"", False
    try:
        while not body.is_over:
            if len(content) > _SHORT_BYTES or not body.wait(max(until - monotonic(), 0)):
                return content, False
            content += body.read(min(body.announced_bytes or _SHORT_BYTES, _SHORT_BYTES))
    except BaseException:
        body.close()
        raise
    return content, True


def headers_of(passed: PassedAnswer) -> dict[str, str]:
    """Return the header fields that the caller gets. Raises `BadAnswer` for a status that is none."""
    if passed.status > _LAST_STATUS:
        passed.body.close()
        raise BadAnswer(f"The provider answered with {passed.status}, which is no status.", may_have_happened=True)
    headers = passed_answer(passed.headers, has_body=passed.status != 204)
    headers["X-Retries"] = str(passed.attempts - 1)
    headers["X-Upstream-Latency-Ms"] = str(round(passed.latency_seconds * 1000))
    return headers


def respond(status: int, headers: Mapping[str, str], content: bytes) -> HttpResponse:
    """Return an answer of ours whose body is all here."""
    return _dress(HttpResponse(content, status=status), headers)


def stream(
    passed: PassedAnswer, headers: Mapping[str, str], audience: Audience, *, beginning: bytes = b""
) -> StreamingHttpResponse:
    """Return an answer whose body is passed on as it comes, after the ``beginning`` that was read of it already."""
    has_own_end = "Content-Length" in headers or _is_event_stream(passed)
    body = Relay(passed.body, audience, beginning=beginning, has_own_end=has_own_end)
    return _dress(StreamingHttpResponse(body, status=passed.status), headers)


def stream_unheard(passed: PassedAnswer, on_end: Callable[[], None]) -> StreamingHttpResponse:
    """Return an answer that is passed on as it comes and of which nothing is kept."""
    return stream(passed, headers_of(passed), _Leaving(on_end))


def _is_event_stream(passed: PassedAnswer) -> bool:
    """Tell whether the body comes in events that somebody waits for."""
    return (passed.headers.get("Content-Type") or "").lower().startswith("text/event-stream")


def _dress(response: _Response, headers: Mapping[str, str]) -> _Response:
    del response["Content-Type"]  # Django's own guess
    for name, value in headers.items():
        if _is_latin(value):
            response[name] = value
        else:  # Django would write it as RFC 2047 has it; the server takes text, and sends UTF-8
            response.headers._store[name.lower()] = (name, value)  # noqa: SLF001
    return response


def _is_latin(value: str) -> bool:
    return value.isascii() or max(value) <= "\xff"
