"""The process's keyring, built from settings and, where that has fallen behind, from ``ENCRYPTION_KEYS_FILE``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from external_apis.crypto import Key, Keyring
from external_apis.errors import UnknownKey

log = structlog.get_logger(__name__)


class _Source:
    """The text that the keyring is built from: as it was configured, until the file says something newer."""

    def __init__(self, text: str) -> None:
        self.text = text


def keyring() -> Keyring:
    """Return the keyring of ``settings.ENCRYPTION_KEYS``. Raises `ImproperlyConfigured` if that is malformed."""
    return _parsed(_source(settings.ENCRYPTION_KEYS).text)


def reread() -> bool:
    """Read ``settings.ENCRYPTION_KEYS_FILE`` again, where there is one; tell whether it held other keys.

    A file that is gone or malformed is logged and changes nothing.
    """
    path = getattr(settings, "ENCRYPTION_KEYS_FILE", "")
    source = _source(settings.ENCRYPTION_KEYS)
    if not path:
        return False
    try:
        text = Path(path).read_text("utf-8").strip()
        changed = text != source.text
        key_ids = _parsed(text).key_ids
    except (OSError, UnicodeDecodeError, ImproperlyConfigured) as error:
        log.warning("ENCRYPTION_KEYS_FILE cannot be read again", error=type(error).__name__)
        return False
    if changed:
        source.text = text
        log.warning("ENCRYPTION_KEYS_FILE was read again", key_ids=key_ids)
    return changed


def master_key(key_id: str) -> Key:
    """Return a key of the ring by its id; one that is not there is looked for in the file once.

    Raises `UnknownKey` that tells to restart the process.
    """
    try:
        return keyring().key(key_id)
    except UnknownKey:
        if reread() and key_id in keyring().key_ids:
            return keyring().key(key_id)
    raise UnknownKey(
        f"The value is sealed under encryption key {key_id!r}, which the ENCRYPTION_KEYS of this process do not hold: "
        "they are old, and the process has to be restarted with the new ones, or the key is lost.",
        details={"key_id": key_id},
    )


@lru_cache(maxsize=4)
def _source(configured: str) -> _Source:
    return _Source(configured)


@lru_cache(maxsize=4)
def _parsed(text: str) -> Keyring:
    try:
        return Keyring.parse(text)
    except ValueError as error:
        raise ImproperlyConfigured(str(error)) from None
