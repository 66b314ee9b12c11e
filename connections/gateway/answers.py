"""A provider's answer as one of ours: status, header fields and body as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.http import HttpResponse, StreamingHttpResponse

from connections.gateway.bodies import Relay
from connections.gateway.headers import passed_answer
from external_apis.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http.response import HttpResponseBase

    from connections.client.passage import PassedAnswer
    from external_apis.transport import StreamedBody

__all__ = ["headers_of", "is_event_stream", "relay", "respond", "stream"]

_Response = TypeVar("_Response", bound="HttpResponseBase")

_SHORT_BYTES = 64 * 1024
_PAUSE_SECONDS = 0.2
_LAST_STATUS = 599


def relay(passed: PassedAnswer, on_end: Callable[[], None]) -> HttpResponseBase:
    """Return the answer, a short one whole; ``on_end`` is called once when its body has come or nobody wants it.

    One of unknown length is waited for as long as it comes without a pause, because only an answer with a length can be
    told from one that was cut short. Raises as reading does.
    """
    headers = headers_of(passed)
    content, is_whole = b"", False
    if (passed.body.announced_bytes or 0) <= _SHORT_BYTES and not is_event_stream(passed):
        content, is_whole = _gather(passed.body)
    if not is_whole:
        return stream(passed, headers, lambda _is_whole: on_end(), beginning=content)
    passed.body.close()
    on_end()
    return respond(passed.status, headers, content)


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
    passed: PassedAnswer,
    headers: Mapping[str, str],
    on_end: Callable[[bool], None],
    *,
    beginning: bytes = b"",
    on_piece: Callable[[bytes], None] | None = None,
) -> StreamingHttpResponse:
    """Return an answer whose body is passed on as it comes, after the ``beginning`` that was read of it already."""
    has_own_end = "Content-Length" in headers or is_event_stream(passed)
    body = Relay(passed.body, on_end, beginning=beginning, on_piece=on_piece, has_own_end=has_own_end)
    return _dress(StreamingHttpResponse(body, status=passed.status), headers)


def is_event_stream(passed: PassedAnswer) -> bool:
    """Tell whether the body comes in events that somebody waits for."""
    return (passed.headers.get("Content-Type") or "").lower().startswith("text/event-stream")


def _gather(body: StreamedBody) -> tuple[bytes, bool]:
    """Return the beginning of a body, and whether that is all of it."""
    content = b""
    while not body.is_over:
        if len(content) > _SHORT_BYTES or not body.wait(_PAUSE_SECONDS):
            return content, False
        content += body.read(min(body.announced_bytes or _SHORT_BYTES, _SHORT_BYTES))
    return content, True


def _dress(response: _Response, headers: Mapping[str, str]) -> _Response:
    del response["Content-Type"]  # Django's own guess
    for name, value in headers.items():
        response[name] = value
    return response
