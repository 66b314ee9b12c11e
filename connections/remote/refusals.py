"""From an answer over HTTP to the error that the same call raises inside of the server's own process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from external_apis.errors import (
    ApiManagerError,
    CallError,
    GrantRefused,
    GraphqlError,
    InvalidInput,
    RateLimited,
    TokenEndpointFailed,
    UpstreamClientError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamServerError,
    UpstreamUnauthorized,
)

__all__ = ["is_upstreams", "refusal_of", "upstream_error"]

_LONGEST_MESSAGE = 500
_UNUSUAL = {GrantRefused, GraphqlError, TokenEndpointFailed}


def is_upstreams(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer of the gateway is a provider's: it says how long that took, whatever the provider says."""
    return "X-Upstream-Latency-Ms" in headers


def refusal_of(headers: Mapping[str, str], body: bytes) -> ApiManagerError | None:
    """Return the error in the server's own envelope, under its class; None for an answer that is not in it."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = answer.get("error") if isinstance(answer, dict) and answer.get("success") is False else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return None
    details = error["details"] if isinstance(error.get("details"), dict) else {}
    return _build(error["code"], str(error.get("message", ""))[:_LONGEST_MESSAGE], details, headers)


def upstream_error(name: str, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the error for a provider's answer with an error status; ``name`` is that of the connection."""
    retries = headers.get("X-Retries", "")
    return _kind_of(status)(
        f"{name.partition('/')[0]} answered with status {status}.",
        upstream_status=status,
        upstream_request_id=headers.get("X-Upstream-Request-Id", "")[:200],
        body=body,
        retry_after_seconds=_retry_after(headers),
        request_id=headers.get("X-Request-Id", "")[:200],
        attempts=int(retries) + 1 if retries.isdecimal() and retries.isascii() else 1,
        may_have_happened=status >= 500 and status != 503,
    )


def _kind_of(status: int) -> type[UpstreamError]:
    if status == 401:
        return UpstreamUnauthorized
    if status == 429:
        return UpstreamRateLimited
    return UpstreamServerError if status >= 500 else UpstreamClientError


def _build(code: str, message: str, details: dict[str, Any], headers: Mapping[str, str]) -> ApiManagerError:
    cls = _CLASSES.get(code)
    if cls is None:
        error = ApiManagerError(message, details=details)
        error.code = code[:100]
        return error
    if cls is RateLimited:
        return RateLimited(message, retry_after_seconds=_retry_after(headers) or 0.0, details=details)
    if issubclass(cls, InvalidInput):
        return InvalidInput(message, details=details)
    if issubclass(cls, UpstreamError) or cls in _UNUSUAL:
        cls = CallError
    if issubclass(cls, CallError):
        error = cls(message, may_have_happened=details.get("may_have_happened") is True, details=details)
        error.request_id = str(details.get("request_id", ""))[:200]
        return error
    return cls(message, details=details)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read RFC 9110 10.2.3: seconds, or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal() and value.isascii() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _tree(cls: type[ApiManagerError]) -> Iterator[type[ApiManagerError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)


# Of classes with one code the highest one counts.
_CLASSES = {cls.code: cls for cls in reversed(list(_tree(ApiManagerError)))}
