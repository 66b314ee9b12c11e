"""What a provider's own headers say about when it wants the next call."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from connections.wire.retry_after import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_pause"]

_FAMILIES = ("X-RateLimit", "X-Rate-Limit", "RateLimit")
_PARAMETER = re.compile(r"(?:^|[;,\s])(r|t|remaining|reset)\s*=\s*([0-9]{1,10})(?![0-9.])")
_NUMBER = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?")


def read_pause(headers: Mapping[str, str], now: float, *, is_refusal: bool) -> float:
    """Return the seconds for which the provider wants no further call, 0 for none.

    A refusal (429, 503) speaks through Retry-After. Any answer may say that nothing remains until a reset: through
    ``X-RateLimit-Remaining`` and ``-Reset`` (seconds from now, or seconds or milliseconds since 1970), their variants,
    or the IETF's ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers, in its newer and its older form).
    """
    if is_refusal and (asked := parse_retry_after(headers.get("Retry-After"), now)) is not None:
        return asked
    pauses = [_until_reset(headers, family, now) for family in _FAMILIES]
    if field := headers.get("RateLimit"):
        pauses += [_read_policy(policy) for policy in _policies(field)]
    return max(pauses)


def _until_reset(headers: Mapping[str, str], family: str, now: float) -> float:
    remaining = _number(headers.get(f"{family}-Remaining"))
    if remaining is None or remaining > 0:
        return 0.0
    reset = _number(headers.get(f"{family}-Reset"))
    if reset is None:
        return 0.0
    if reset > 1e11:
        reset /= 1000
    return max(0.0, reset - now if reset > 1e9 else reset)


def _policies(field: str) -> list[str]:
    """The newer form lists policies that begin with a quoted name; the older one is a single list of parameters."""
    return field.split(",") if field.lstrip().startswith('"') else [field]


def _read_policy(policy: str) -> float:
    found = {name[0] if len(name) == 1 else name: int(value) for name, value in _PARAMETER.findall(policy)}
    remaining, reset = found.get("r", found.get("remaining")), found.get("t", found.get("reset"))
    return float(reset) if remaining == 0 and reset is not None else 0.0


def _number(text: str | None) -> float | None:
    return float(text) if text and _NUMBER.fullmatch(text.strip()) else None
