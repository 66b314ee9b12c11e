"""Single calls that are kept: what may be shown of one, and which paths give nothing away."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote

__all__ = ["MASK", "Sample", "shown_path"]

MASK = "***"

_MOST_CHARACTERS = 300
_SHORTEST_SECRET = 4
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORDS = re.compile(r"[a-z]{1,19}([_.-][a-z]{1,19})*")
_LONGEST_NAME = 19


@dataclass(frozen=True, slots=True)
class Sample:
    """A call that failed, or one good one out of many; ``at`` is when it ended, in seconds since 1970.

    ``error`` is the code of what it ended in, empty for a good one. The path has no query and no secret.
    """

    connection_id: str
    at: float
    method: str
    path: str
    status: int | None
    error: str
    duration_ms: int
    attempts: int
    request_id: str

    def facts(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def shown_path(target: str, secrets: Iterable[str]) -> str:
    """Return the path of a request's target (path and query) as it may be kept.

    Masked is each segment that holds one of the secrets, that names a person (an e-mail address), or that could be a
    key: longer than 19 characters, unless it is a UUID or made of words.
    """
    known = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    segments = target.partition("?")[0].split("/")
    return "/".join(_shown(segment, known) for segment in segments)[:_MOST_CHARACTERS]


def _shown(segment: str, secrets: list[str]) -> str:
    plain = unquote(segment)
    if "@" in plain or any(secret in plain or secret in segment for secret in secrets):
        return MASK
    if len(plain) <= _LONGEST_NAME or _UUID.fullmatch(plain) or _WORDS.fullmatch(plain):
        return segment if segment.isascii() and segment.isprintable() else MASK
    return MASK
