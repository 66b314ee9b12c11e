"""Prefixed, time-ordered ids: ``conn_01j8x...``, made here before the insert so that a row's identity is known."""

from __future__ import annotations

import secrets
import time
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_MILLISECOND_BITS, _MICROSECOND_BITS, _RANDOM_BITS = 48, 10, 72
_LENGTH = (_MILLISECOND_BITS + _MICROSECOND_BITS + _RANDOM_BITS) // 5

MAX_LENGTH = 48
"""Length of an id column: the longest prefix, an underscore, and the 26 characters."""


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 26 characters: 48 bits of milliseconds, 10 of the microseconds in it, 72 random bits."""
    milliseconds, microseconds = divmod(time.time_ns() // 1000, 1000)
    return _id(prefix, _bits(milliseconds, microseconds) | secrets.randbits(_RANDOM_BITS))


def first_id(prefix: str, moment: datetime) -> str:
    """Return the lowest id that there can be of a moment's millisecond: a bound of time for rows in order of ids."""
    return _id(prefix, _bits(max(0, int(moment.timestamp() * 1000)), 0))


def can_name(reference: object) -> bool:
    """Whether a reference could stand in the database at all: text without NUL bytes and lone surrogates.

    What cannot names no row; PostgreSQL and its driver would raise errors of their own.
    """
    if not isinstance(reference, str):
        return False
    return "\0" not in reference and not any("\ud800" <= character <= "\udfff" for character in reference)


def _bits(milliseconds: int, microseconds: int) -> int:
    return (milliseconds << _MICROSECOND_BITS | microseconds) << _RANDOM_BITS


def _id(prefix: str, number: int) -> str:
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))
