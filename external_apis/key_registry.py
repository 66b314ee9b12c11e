"""Makes sure that the keyring and the database belong together, before anything is written."""

from __future__ import annotations

from django.db import connection

from external_apis.errors import UnknownKey, Unreadable, VaultError
from external_apis.keyring import keyring
from external_apis.models import EncryptionKey

_CHECK_PLAINTEXT = b"external-apis"


def _identity(key_id: str) -> str:
    return f"external_apis.encryptionkey:{key_id}:check_value"


def verify_keys() -> None:
    """Check that the keyring holds every key that this database was sealed under. Reads only.

    Raises `UnknownKey` for an id that is missing and `VaultError` for one whose key is another one. A database
    without our tables is fine.
    """
    if EncryptionKey._meta.db_table not in connection.introspection.table_names():
        return
    for key in EncryptionKey.objects.order_by("first_used_at"):
        try:
            keyring().open(bytes(key.check_value), _identity(key.id))
        except UnknownKey:
            raise UnknownKey(
                f"This database is sealed under encryption key {key.id!r}, which ENCRYPTION_KEYS does not hold.",
                details={"key_id": key.id},
            ) from None
        except Unreadable:
            raise VaultError(
                f"This database is sealed under an encryption key {key.id!r} that is not the one of that id in "
                "ENCRYPTION_KEYS.",
                details={"key_id": key.id},
            ) from None


def register_writing_key() -> None:
    """Record the key that this process writes with."""
    key_id = keyring().writing_key_id
    EncryptionKey.objects.get_or_create(
        id=key_id, defaults={"check_value": bytes(keyring().seal(_CHECK_PLAINTEXT, _identity(key_id)))}
    )
