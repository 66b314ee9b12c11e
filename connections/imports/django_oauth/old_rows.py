"""One row of an old table in one shape, whatever its library: whose account at which provider, and its tokens."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from connections.oauth.tokens import Tokens
from external_apis.errors import InvalidInput

__all__ = ["MOST_JSON", "OldApp", "OldClient", "OldRow", "OldUser", "read_object", "read_token"]

_LONGEST_TOKEN = 20_000
MOST_JSON = 2_000_000
_TOKEN = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class OldUser:
    """Somebody there; ``table`` is where, quoted as SQL wants it. ``is_alone`` with the e-mail address, which
    ``is_verified`` unless allauth there says otherwise."""

    table: str
    id: str
    username: str = ""
    email: str = ""
    is_alone: bool = True
    is_verified: bool = True


@dataclass(frozen=True, slots=True)
class OldClient:
    """A registered client of theirs at a provider."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OldApp:
    """A provider that their users could connect to; without a ``client`` the configured one counts."""

    kind: str
    provider: str
    client: OldClient | None = None


@dataclass(frozen=True, slots=True)
class OldRow:
    """``kind`` is its library's, ``number`` its primary key there. ``tokens`` are None where there is a ``problem``."""

    kind: str
    number: int
    provider: str
    uid: str
    user: OldUser | None
    client: OldClient | None = None
    tokens: Tokens | None = None
    problem: str = ""

    @property
    def source_key(self) -> str:
        return f"{self.kind}:{self.number}"


def read_object(text: str | None) -> dict[str, Any]:
    """Return the object of a JSON column, also of one that was encoded twice. Raises `InvalidInput`."""
    found: Any = text or "{}"
    for _ in range(2):
        if not isinstance(found, str):
            break
        if len(found) > MOST_JSON:
            raise InvalidInput("extra_data is longer than 2,000,000 characters")
        try:
            found = json.loads(found) if found.strip() else {}
        except (ValueError, RecursionError):
            raise InvalidInput("extra_data is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidInput("extra_data is no JSON object")
    return found


def read_token(value: Any, name: str) -> str | None:
    """Return a token that a header can carry, None where there is none. Raises `InvalidInput`."""
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) > _LONGEST_TOKEN or not _TOKEN.fullmatch(value):
        raise InvalidInput(f"its {name} is nothing that a request could carry")
    return value
