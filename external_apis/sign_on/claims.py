"""Reading the claims of whoever signs in: strangers' data of any shape until here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["text", "values"]

_LONGEST = 255


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
