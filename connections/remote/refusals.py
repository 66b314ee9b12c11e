"""From an answer over HTTP to the error that the same call raises inside of the server's own process."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from connections.wire.retry_after import parse_retry_after
from external_apis.errors import (
    ApiManagerError,
    CallError,
    ConnectionUnusable,
    Forbidden,
    GrantRefused,
    GraphqlError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    TokenEndpointFailed,
    UpstreamClientError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamServerError,
    UpstreamUnauthorized,
)

__all__ = ["is_upstreams", "refusal_of", "upstream_error"]

_LONGEST_MESSAGE, _LONGEST_ID = 500, 200
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# What is meant by a code that this version does not know.
_BY_STATUS: dict[int, type[ApiManagerError]] = {
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: ConnectionUnusable,
    410: ConnectionUnusable,
    429: RateLimited,
    503: ServiceUnavailable,
}


def is_upstreams(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer of the gateway is a provider's: it says how long that took, whatever the provider says."""
    return "X-Upstream-Latency-Ms" in headers


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiManagerError | None:
    """Return the error in the server's own envelope, under its class; None for an answer that is not in it.

    One whose code is not known here keeps code and status, under the class that its status stands for.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = answer.get("error") if isinstance(answer, dict) and answer.get("success") is False else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return None
    given = error["details"] if isinstance(error.get("details"), dict) else {}
    details = {_snake(name): value for name, value in given.items()}
    message, code = str(error.get("message", ""))[:_LONGEST_MESSAGE], error["code"]
    cls = _CLASSES.get(code)
    refusal = _build(cls or _BY_STATUS.get(status, ApiManagerError), message, details, headers)
    if cls is None:
        refusal.code, refusal.status = code[:100], status
    return refusal


def upstream_error(name: str, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the error for a provider's answer with an error status; ``name`` is that of the connection."""
    retries = headers.get("X-Retries", "")
    return _kind_of(status)(
        f"{name.partition('/')[0]} answered with status {status}.",
        upstream_status=status,
        upstream_request_id=headers.get("X-Upstream-Request-Id", "")[:_LONGEST_ID],
        body=body,
        retry_after_seconds=_retry_after(headers),
        request_id=_request_id(headers),
        attempts=int(retries) + 1 if retries.isdecimal() and retries.isascii() else 1,
        may_have_happened=status >= 500 and status != 503,
    )


def _kind_of(status: int) -> type[UpstreamError]:
    if status == 401:
        return UpstreamUnauthorized
    if status == 429:
        return UpstreamRateLimited
    return UpstreamServerError if status >= 500 else UpstreamClientError


def _build(
    cls: type[ApiManagerError], message: str, details: dict[str, Any], headers: Mapping[str, str]
) -> ApiManagerError:
    if issubclass(cls, RateLimited):
        seconds = details.get("retry_after_seconds")
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds >= 0
        wait = float(seconds) if is_number and seconds is not None else _retry_after(headers) or 0.0
        return RateLimited(message, retry_after_seconds=wait, details=details)
    if issubclass(cls, InvalidInput):
        return InvalidInput(message, details=details)
    if not issubclass(cls, CallError):
        return cls(message, details=details)
    error = _build_call_error(cls, message, details, headers)
    attempts = details.get("attempts")
    error.attempts = attempts if isinstance(attempts, int) and not isinstance(attempts, bool) else 1
    error.may_have_happened = details.get("may_have_happened") is True
    error.request_id = _request_id(headers) or str(details.get("request_id") or "")[:_LONGEST_ID]
    known = {name: getattr(error, name) for name in ("attempts", "may_have_happened", "request_id")}
    error.details = {**error.details, **details, **known}
    return error


def _build_call_error(
    cls: type[CallError], message: str, details: Mapping[str, Any], headers: Mapping[str, str]
) -> CallError:
    if issubclass(cls, GrantRefused):
        return GrantRefused(message, error=str(details.get("error", "")), is_final=details.get("is_final") is True)
    if issubclass(cls, TokenEndpointFailed):
        return TokenEndpointFailed(message, retry_after_seconds=_retry_after(headers))
    if issubclass(cls, UpstreamError) and isinstance(details.get("upstream_status"), int):
        request_id = str(details.get("upstream_request_id") or "")[:_LONGEST_ID]
        return cls(message, upstream_status=details["upstream_status"], upstream_request_id=request_id)
    if issubclass(cls, (UpstreamError, GraphqlError)):  # of which the envelope holds too little
        error = CallError(message)
        error.code, error.is_transient = cls.code, cls.is_transient
        return error
    return cls(message)


def _request_id(headers: Mapping[str, str]) -> str:
    return headers.get("X-Request-Id", "")[:_LONGEST_ID]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    return parse_retry_after(headers.get("Retry-After"), time.time())


def _snake(name: str) -> str:
    """Undo what the envelope does to the names of details."""
    return _CAPITAL.sub("_", name).lower()


def _tree(cls: type[ApiManagerError]) -> Iterator[type[ApiManagerError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)


# Of classes with one code the highest one counts.
_CLASSES = {cls.code: cls for cls in reversed(list(_tree(ApiManagerError)))}
