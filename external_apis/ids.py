"""Prefixed, time-ordered ids: ``conn_01j8x...``, made here before the insert so that a row's identity is known."""

from __future__ import annotations

import secrets
import time
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_TIME_BITS, _RANDOM_BITS = 48, 82
_LENGTH = (_TIME_BITS + _RANDOM_BITS) // 5

MAX_LENGTH = 48
"""Length of an id column: the longest prefix, an underscore, and the 26 characters."""


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 26 characters: 48 bits of milliseconds, then 82 random bits."""
    return _id(prefix, (time.time_ns() // 1_000_000 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS))


def first_id(prefix: str, moment: datetime) -> str:
    """Return the lowest id that there can be of a moment's millisecond: a bound of time for rows in order of ids."""
    return _id(prefix, max(0, int(moment.timestamp() * 1000)) << _RANDOM_BITS)


def can_name(reference: object) -> bool:
    """Whether a reference could stand in the database at all: text without NUL bytes and lone surrogates.

    What cannot names no row; PostgreSQL and its driver would raise errors of their own.
    """
    if not isinstance(reference, str):
        return False
    return "\0" not in reference and not any("\ud800" <= character <= "\udfff" for character in reference)


def _id(prefix: str, number: int) -> str:
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))
