"""How other systems write nothing, true and false where they write texts, as in CSV or columns that are all text."""

from __future__ import annotations

from typing import Any

__all__ = ["is_nothing", "truth"]

_NOTHING = frozenset({"null", "(null)", "undefined", "none", "nil", "\\n"})
"""SQL's, JavaScript's, Python's and Ruby's, and PostgreSQL's ``\\N`` in COPY; in lower case."""
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
_LONGEST = 12


def is_nothing(value: Any) -> bool:
    """Tell whether a text only says that there is no value. An empty one does not say so."""
    return isinstance(value, str) and len(value) <= _LONGEST and value.strip().lower() in _NOTHING


def truth(value: Any) -> bool | None:
    """Read what is true or false, in PostgreSQL's spellings; None where nothing stands there.

    Raises `ValueError` for anything else.
    """
    if value is None or is_nothing(value):
        return None
    if isinstance(value, str | int | float):  # 1.0 is a table program's, of a column that has gaps
        text = str(value).strip().lower().removesuffix(".0")
        if not text:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
    raise ValueError("is neither true nor false")
