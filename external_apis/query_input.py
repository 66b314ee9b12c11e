"""Queries from outside: UTF-8 alone, and numbers in plain digits."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from pydantic import BeforeValidator

from external_apis.errors import InvalidInput

__all__ = ["DIGITS_ALONE", "check_encoding"]

_DIGITS = re.compile(r"[0-9]{1,18}")


def check_encoding(query: bytes) -> None:
    """Refuse what is not UTF-8, which Django would replace in silence. Raises `InvalidInput` that names the parameter.

    A name that is not UTF-8 itself is told as it was sent.
    """
    for part in query.split(b"&"):
        try:
            unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise _not_utf8(part.partition(b"=")[0]) from None


def _not_utf8(name: bytes) -> InvalidInput:
    try:
        shown = unquote_to_bytes(name.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        shown = name.decode("ascii", errors="replace")
    shown = shown[:200] or "(no name)"
    return InvalidInput.of(shown, "is not UTF-8")


def _digits(value: Any) -> Any:
    """Python reads signs, spaces and underscores as part of a number as well."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("is not a whole number in digits")
    return value


DIGITS_ALONE = BeforeValidator(_digits)
"""Marks a number in a query; stands last, so that the bounds before it are documented."""
