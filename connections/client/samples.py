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
_MOST_UNQUOTINGS = 5
_LONGEST_NAME = 32
_WORD = r"(?:[A-Z]?[a-z]{1,16}(?:[A-Z][a-z]{2,16}){0,3}|[A-Z]{1,4})"
_HARMLESS = re.compile(
    rf"""
      {_WORD}(?:[_-]{_WORD}){{0,2}}                                            # payment_methods
    | {_WORD}\.(?:json|xml|csv)                                                # Messages.json
    | [a-z]{{2,16}}(?:\.[a-z]{{2,16}})?\.                                       # chat.postMessage, users.list
      (?:[a-z]{{2,16}}(?:[A-Z][a-z]{{2,16}}){{1,3}}|create|delete|get|history|info|list|search|send|test|update)
    | v\d{{1,3}}(?:\.\d{{1,3}}){{0,2}}(?:(?:alpha|beta)\d{{0,2}})? | \d{{1,2}}\.\d{{1,2}} | oauth2  # v1, v1.0, 2.0
    | 20\d\d-[01]\d(?:-[0-3]\d)?                                              # 2010-04-01
    | \d{{1,3}}                                                               # 404
    """,
    re.VERBOSE | re.ASCII,
)


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

    Shown are its segments that look like the provider's own names: up to three words of letters, a method with a dot
    (``chat.postMessage``), a version, a number of up to three digits; unless one of the secrets stands in there. All
    others are masked, and the whole path where a secret goes over several segments.
    """
    path = target.partition("?")[0]
    known = [secret.casefold() for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    if any("/" in secret for secret in known):
        spellings = _unquote_wholly(path)
        if any("/" in secret and secret in spelling for secret in known for spelling in spellings):
            return f"/{MASK}"
    return "/".join(_shown(segment, known) for segment in path.split("/"))[:_MOST_CHARACTERS]


def _shown(segment: str, secrets: list[str]) -> str:
    if len(segment) > _LONGEST_NAME or (segment and not _HARMLESS.fullmatch(segment)):
        return MASK
    return MASK if any(secret in segment.casefold() for secret in secrets) else segment


def _unquote_wholly(path: str) -> list[str]:
    """Return the path as it is and as whoever decodes it once more reads it; more often nobody does."""
    spellings = [path]
    for _ in range(_MOST_UNQUOTINGS):
        spellings.append(unquote(spellings[-1]))
    return [spelling.casefold() for spelling in spellings]
