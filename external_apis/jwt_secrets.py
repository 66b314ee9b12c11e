"""``JWT_SECRET``: one secret, or several as ``kid:secret`` separated by commas; the first one signs, all verify."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

__all__ = ["derived_kid", "parse"]

_SHORTEST_BYTES = 32
"""As long as what HS256 makes of it (RFC 7518, section 3.2); a shorter one can be guessed from a single token."""
_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):(.+)")


def parse(text: str) -> Mapping[str, str]:
    """Return the secrets by key id, the one that signs first.

    A secret that stands alone may hold commas, or colons, and has an id made from it. Raises `ValueError` that names
    the variable and quotes nothing of it: for a list with an entry that is not ``kid:secret``, an id that comes twice,
    and a secret of less than 32 bytes.
    """
    matches = [_ENTRY.fullmatch(entry.strip()) for entry in text.split(",")]
    entries = [(match[1], match[2]) for match in matches if match is not None]
    if entries and len(entries) < len(matches):
        number = matches.index(None) + 1
        raise ValueError(f"JWT_SECRET is one secret, or a list of kid:secret; entry {number} of the list is none.")
    named = dict(entries) if entries else {derived_kid(text): text}
    if len(named) < len(entries):
        raise ValueError("JWT_SECRET has two secrets under one key id.")
    for number, secret in enumerate(named.values(), start=1):
        if len(secret.encode()) < _SHORTEST_BYTES:
            raise ValueError(f"JWT_SECRET: secret {number} is shorter than {_SHORTEST_BYTES} bytes.")
    return named


def derived_kid(secret: str) -> str:
    """Return the key id that a secret has when it stands alone."""
    return hmac.new(secret.encode(), b"external-apis kid", hashlib.sha256).hexdigest()[:12]
