"""The process's keyring, built from settings."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from external_apis.crypto import Keyring


def keyring() -> Keyring:
    """Return the keyring of ``settings.ENCRYPTION_KEYS``. Raises `ImproperlyConfigured` if that is malformed."""
    return _parsed(settings.ENCRYPTION_KEYS)


@lru_cache(maxsize=4)
def _parsed(text: str) -> Keyring:
    try:
        return Keyring.parse(text)
    except ValueError as error:
        raise ImproperlyConfigured(str(error)) from None
