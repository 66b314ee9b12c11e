"""What a provider answered, as a `requests.Response` or as an error of the tree."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from connections.client.retry import parse_retry_after
from external_apis.errors import (
    UpstreamClientError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamServerError,
    UpstreamUnauthorized,
)

if TYPE_CHECKING:
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
    response.encoding = get_encoding_from_headers(response.headers)
    response.elapsed = timedelta(seconds=elapsed_seconds)
    response.raw = BytesIO(answer.body)
    # The body is here already: this is what requests itself does after reading one.
    response._content = answer.body  # noqa: SLF001
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
    response.request = _describe(request)
    return response


def build_error(name: str, answer: Answer, *, now: float, request_id: str, attempts: int) -> UpstreamError:
    """Return the error for a status of 400 and above; ``name`` is that of the provider.

    An upstream that failed with a 5xx may have done its work before; one that refused (4xx, 503) has not.
    """
    kind: type[UpstreamError]
    match answer.status:
        case 401:
            kind = UpstreamUnauthorized
        case 429:
            kind = UpstreamRateLimited
        case status if status < 500:
            kind = UpstreamClientError
        case _:
            kind = UpstreamServerError
    return kind(
        f"{name} answered with status {answer.status}.",
        upstream_status=answer.status,
        upstream_request_id=_find_request_id(answer),
        body=answer.body[:MAX_ERROR_BODY_BYTES],
        retry_after_seconds=parse_retry_after(answer.headers.get("Retry-After"), now),
        request_id=request_id,
        attempts=attempts,
        may_have_happened=answer.status >= 500 and answer.status != 503,
    )


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
