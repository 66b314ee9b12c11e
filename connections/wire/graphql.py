"""GraphQL over HTTP: what a call sends, and its answer's data, errors and cost (seed 004, with its errors' paths)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connections.wire.json_paths import look_up
from external_apis.errors import BadAnswer, CallError, GraphqlError, UpstreamError

__all__ = ["Cost", "Reader", "build_body"]

_REFUSALS = frozenset(("RATE_LIMITED", "RATE_LIMIT_EXCEEDED", "THROTTLED"))
_SHOWN_ERRORS, _SHOWN_CHARACTERS = 3, 200
_DEFAULT_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Cost:
    """A provider's budget for queries: points ``available``, and the seconds until ``needed`` of them are there."""

    available: float
    needed: float
    wait_seconds: float


def build_body(query: str, variables: Mapping[str, Any] | None, operation_name: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"query": query}
    if variables is not None:
        body["variables"] = dict(variables)
    if operation_name is not None:
        body["operationName"] = operation_name
    return body


class Reader:
    """Reads the answers of one operation; the ``data`` of the one that holds no errors stays here.

    ``slow_down`` is told the seconds until the provider's budget has grown. Known are Shopify's ``extensions.cost`` and
    the ``rateLimit`` field that GitHub's queries may ask for.
    """

    def __init__(self, secrets: Iterable[str], now: Callable[[], float], slow_down: Callable[[float], None]) -> None:
        self._secrets, self._now, self._slow_down = frozenset(secrets), now, slow_down
        self.data: Any = None

    def read(self, answer: bytes) -> None:
        """Raise `GraphqlError` for ``errors`` in an answer, and `BadAnswer` for what is no GraphQL answer."""
        try:
            body = json.loads(answer)
        except (ValueError, RecursionError):
            raise BadAnswer("The GraphQL answer is not JSON.", may_have_happened=True) from None
        if (cost := _find_cost(body, self._now())) is not None and cost.wait_seconds:
            self._slow_down(cost.wait_seconds)
        if not isinstance(body, dict) or not ("data" in body or body.get("errors")):
            raise BadAnswer("The GraphQL answer holds neither data nor errors.", may_have_happened=True)
        if body.get("errors"):
            raise _build_error(body, self._secrets, self._now())
        self.data = body["data"]

    def explain(self, error: UpstreamError) -> CallError:
        """Return what an answer with an error status says in GraphQL, or the error itself where it says nothing so."""
        try:
            body = json.loads(error.body)
        except (ValueError, RecursionError):
            return error
        errors = body.get("errors") if isinstance(body, dict) else None
        is_graphql = isinstance(errors, list) and errors and all(isinstance(item, dict) for item in errors)
        return _build_error(body, self._secrets, self._now()) if is_graphql else error


def _find_cost(body: Any, now: float) -> Cost | None:
    throttle = look_up(body, "extensions.cost.throttleStatus")
    if isinstance(throttle, dict):
        available, rate = _number(throttle.get("currentlyAvailable")), _number(throttle.get("restoreRate"))
        needed = _number(look_up(body, "extensions.cost.requestedQueryCost"))
        if available is None or needed is None or not rate or rate < 0:
            return None
        return Cost(available, needed, max(0.0, (needed - available) / rate))
    limit = look_up(body, "data.rateLimit")
    if isinstance(limit, dict):
        available, needed = _number(limit.get("remaining")), _number(limit.get("cost"))
        if available is None or needed is None:
            return None
        return Cost(available, needed, _seconds_until(limit.get("resetAt"), now) if available < needed else 0.0)
    return None


def _build_error(body: Mapping[str, Any], secrets: Iterable[str], now: float) -> GraphqlError:
    given = body["errors"] if isinstance(body["errors"], list) else [body["errors"]]
    errors = [error if isinstance(error, dict) else {"message": str(error)} for error in given]
    # An operation that was refused for its cost was not begun; one that gave anything was, whatever it ran into then.
    is_refusal = _is_empty(body.get("data")) and all(_kind(error) in _REFUSALS for error in errors)
    cost = _find_cost(body, now)
    error = GraphqlError(
        f"The GraphQL answer holds errors: {'; '.join(_describe(error, secrets) for error in errors[:_SHOWN_ERRORS])}",
        errors=errors,
        data=body.get("data"),
        retry_after_seconds=(cost.wait_seconds if cost else _DEFAULT_WAIT_SECONDS) if is_refusal else None,
    )
    error.is_transient, error.may_have_happened = is_refusal, not is_refusal
    error.details["may_have_happened"] = error.may_have_happened
    return error


def _is_empty(data: Any) -> bool:
    return data is None or (isinstance(data, dict) and all(value is None for value in data.values()))


def _kind(error: Mapping[str, Any]) -> Any:
    kind = look_up(error, "extensions.code") or error.get("type")
    return kind if isinstance(kind, str) else ""


def _describe(error: Mapping[str, Any], secrets: Iterable[str]) -> str:
    text = str(error.get("message", "an error without a message"))
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    text = "".join(letter if letter.isprintable() else " " for letter in text[:_SHOWN_CHARACTERS])
    path = error.get("path")
    return f"{text} (at {'.'.join(map(str, path))[:_SHOWN_CHARACTERS]})" if isinstance(path, list) and path else text


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _seconds_until(moment: Any, now: float) -> float:
    try:
        return max(0.0, datetime.fromisoformat(moment).timestamp() - now)
    except (TypeError, ValueError):
        return _DEFAULT_WAIT_SECONDS
