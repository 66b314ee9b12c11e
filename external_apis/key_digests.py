"""The digests under which API keys are stored: HMAC-SHA256, keyed by a secret that is itself sealed in the database.

Whoever has a copy of the database alone can neither find a key nor check a guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache

from django.db import transaction

from external_apis.crypto import Sealed
from external_apis.models import DigestSecret

__all__ = ["SECRET_ID", "digest", "make_secret", "open_secret"]

SECRET_ID = "api-keys"  # noqa: S105 (the row's name)
_NAME = "hmac"
_BYTES = 32


def digest(token: str, secret: bytes) -> bytes:
    """Return the 32 bytes that are stored of a key."""
    return hmac.new(secret, token.encode(), hashlib.sha256).digest()


def make_secret() -> bytes:
    """Return the secret, made where there is none yet; two processes that make it at once end with the same one.

    Raises `VaultError` where it does not open.
    """
    with transaction.atomic():
        row, _ = DigestSecret.objects.get_or_create(
            pk=SECRET_ID, defaults={"secrets": {_NAME: secrets.token_hex(_BYTES)}}
        )
    return bytes.fromhex(row.secrets[_NAME])


@lru_cache(maxsize=4)
def open_secret(sealed: bytes) -> bytes:
    """Return the secret of the stored column. What was opened is kept under what is stored, which says when it is
    another one. Raises `VaultError`."""
    row = DigestSecret(pk=SECRET_ID)
    row.secrets = Sealed(sealed)
    return bytes.fromhex(row.secrets[_NAME])
