"""What a plan may show of a secret, and of any text that somebody else has written."""

from __future__ import annotations

__all__ = ["masked", "printable"]

_SHORTEST_HINTED = 20


def masked(value: str) -> str:
    """Return the last four characters of a long secret, and of a short one nothing."""
    return f"…{printable(value[-4:])}" if len(value) >= _SHORTEST_HINTED else "••••"


def printable(text: str) -> str:
    """Return a text with what a terminal obeys written out: control characters, those that turn the line around, and
    bytes that were no text."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
