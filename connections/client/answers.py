"""What a provider answered, as a `requests.Response` or as an error of the tree."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from connections.wire.retry_after import parse_retry_after
from external_apis.errors import (
    UpstreamClientError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamServerError,
    UpstreamUnauthorized,
)

if TYPE_CHECKING:
    from connections.client.outcomes import Verdict
    from connections.client.outgoing import Outgoing
    from external_apis.transport import Answer

__all__ = ["MAX_ERROR_BODY_BYTES", "build_error", "build_response"]

MAX_ERROR_BODY_BYTES = 16 * 1024

_REQUEST_ID_HEADERS = (
    "X-Request-Id",
    "Request-Id",
    "X-Amzn-RequestId",
    "X-Ms-Request-Id",
    "X-GitHub-Request-Id",
    "X-Fb-Trace-Id",
    "Twilio-Request-Id",
    "X-Trace-Id",
    "X-Correlation-Id",
    "CF-Ray",
)


def build_response(request: Outgoing, answer: Answer, elapsed_seconds: float) -> requests.Response:
    """Return the answer with the face of requests; ``request`` is the unsigned one, so no credential hangs on it."""
    response = requests.Response()
    response.status_code = answer.status
    response.reason = answer.reason
    response.url = request.url
    response.headers = CaseInsensitiveDict(answer.headers.items())
    response.encoding = _known_charset(get_encoding_from_headers(response.headers))
    response.elapsed = timedelta(seconds=elapsed_seconds)
    if answer.stream is not None:
        response.raw = answer.stream
    else:
        response.raw = BytesIO(answer.body)
        # The body is here already: this is what requests itself does after reading one.
        response._content = answer.body  # noqa: SLF001
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
    response.request = _describe(request)
    return response


def build_error(
    name: str, answer: Answer, verdict: Verdict, *, now: float, request_id: str, attempts: int
) -> UpstreamError:
    """Return the error for an answer that is no success; ``name`` is that of the provider.

    An upstream that failed with a 5xx may have done its work before; one that refused (4xx, 503) has not. What a 2xx
    that reports an error has done, nobody knows.
    """
    message = f"{name} answered with status {answer.status}"
    status, is_refusal = answer.status, verdict.action in ("rate_limited", "refresh_then_retry")
    error = _kind_of(status, verdict)(
        f"{message}: {verdict.message}" if verdict.message else f"{message}.",
        upstream_status=status,
        upstream_request_id=_find_request_id(answer),
        body=answer.body[:MAX_ERROR_BODY_BYTES],
        retry_after_seconds=parse_retry_after(answer.headers.get("Retry-After"), now),
        request_id=request_id,
        attempts=attempts,
        may_have_happened=not is_refusal and (status < 400 or (status >= 500 and status != 503)),
    )
    error.is_transient = verdict.action in ("retry", "rate_limited")
    error.wants_refresh = verdict.action == "refresh_then_retry"
    return error


def _kind_of(status: int, verdict: Verdict) -> type[UpstreamError]:
    if verdict.action == "refresh_then_retry" or status == 401:
        return UpstreamUnauthorized
    if verdict.action == "rate_limited" or status == 429:
        return UpstreamRateLimited
    return UpstreamServerError if status >= 500 else UpstreamClientError


@lru_cache(maxsize=64)
def _known_charset(name: str | None) -> str | None:
    """Return a charset that text can be read in, UTF-8 for what is none: an unknown name, or Python's own ``idna``."""
    if name is None:
        return None
    try:
        b"\xff".decode(name, errors="replace")
    except (LookupError, ValueError):
        return "utf-8"
    return name


def _find_request_id(answer: Answer) -> str:
    for header in _REQUEST_ID_HEADERS:
        if value := answer.headers.get(header):
            return value[:200] if value.isprintable() else ""
    return ""


def _describe(request: Outgoing) -> requests.PreparedRequest:
    prepared = requests.PreparedRequest()
    prepared.method = request.method
    prepared.url = request.url
    prepared.headers = CaseInsensitiveDict(request.headers.as_dict())
    prepared.body = request.body
    return prepared
