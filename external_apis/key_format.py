"""What an API key looks like (seed 003): ``sk_live_``, 32 random bytes in base 62, and a checksum of six characters.

The fixed prefixes and the checksum (CRC-32 of all before it, in base 62) let secret scanners know a key for what it is,
and let us refuse a mistyped one without looking it up.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib

__all__ = ["PUBLIC_LENGTH", "is_like_key", "is_well_formed", "make_token", "public_part", "redact"]

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BYTES = 32
_RANDOM_LENGTH = 43  # of 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH = 6  # of 62 ** 6 > 2 ** 32
PUBLIC_LENGTH = 20
"""The prefix and 12 characters (71 bits), which find the key; 184 bits stay secret."""

_PREFIX = re.compile(r"[ps]k_(?:live|test)_")
_KEY = re.compile(rf"[ps]k_(?:live|test)_[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}")
_LETTERS = {"publishable": "pk", "secret": "sk"}


def make_token(type_: str, mode: str) -> str:
    """Return a new key: the one time that it exists outside of its holder's hands."""
    body = f"{_LETTERS[type_]}_{mode}_{_base62(int.from_bytes(secrets.token_bytes(_RANDOM_BYTES)), _RANDOM_LENGTH)}"
    return body + _checksum(body)


def is_like_key(token: str) -> bool:
    """Whether somebody meant this to be a key: it begins like one."""
    return _PREFIX.match(token) is not None


def is_publishable(token: str) -> bool:
    """Whether this begins as a publishable key does."""
    return is_like_key(token) and token.startswith(_LETTERS["publishable"])


def is_well_formed(token: str) -> bool:
    """Whether this could be a key that `make_token` made: shape and checksum are right."""
    if _KEY.fullmatch(token) is None:
        return False
    return _checksum(token[:-_CHECKSUM_LENGTH]) == token[-_CHECKSUM_LENGTH:]


def public_part(token: str) -> str:
    """Return the beginning that is stored in clear and indexed."""
    return token[:PUBLIC_LENGTH]


def redact(token: str) -> str:
    """Return the form that is shown for ever after: the first six characters, ``***``, the last three."""
    return f"{token[:6]}***{token[-3:]}"


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
