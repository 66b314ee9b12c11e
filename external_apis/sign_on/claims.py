"""Reading the claims of whoever signs in: strangers' data of any shape until here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["merged", "text", "values"]

_LONGEST = 255
_OF_EMAIL = ("email", "email_verified")


def merged(told: Mapping[str, Any], signed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of both documents, the signed ID token's first.

    An address and whether it is verified come from one of them: the word of one is not about the other's address.
    """
    source = signed if "email" in signed else told
    claims = {name: value for name, value in {**told, **signed}.items() if name not in _OF_EMAIL}
    return claims | {name: source[name] for name in _OF_EMAIL if name in source}


def values(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return what a claim says as a set of texts: a list's, one text's, or ``true`` for a flag that is set.

    A claim is named by itself (``groups``, also ``https://example.com/roles``) or by a path of dots
    (``realm_access.roles``).
    """
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if found is True:
        return frozenset({"true"})
    items = found if isinstance(found, list) else [found]
    return frozenset(item for item in items if isinstance(item, str) and item)


def text(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim that is a short text without control characters, else nothing."""
    value = claims.get(name)
    return value if isinstance(value, str) and len(value) <= _LONGEST and value.isprintable() else ""
