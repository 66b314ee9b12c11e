"""Makes sure that the keyring and the database belong together, before anything is written.

The table is reached through the app registry, because processes ask before the models are loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import connection

from external_apis.errors import UnknownKey, Unreadable, VaultError
from external_apis.keyring import keyring

_CHECK_PLAINTEXT = b"external-apis"


def _table() -> Any:
    return apps.get_model("external_apis", "EncryptionKey")


def _identity(key_id: str) -> str:
    return f"external_apis.encryptionkey:{key_id}:check_value"


def verify_keys() -> None:
    """Check that the keyring holds every key that this database was sealed under. Reads only.

    Raises as `compare` does. A database without our tables is fine.
    """
    if _table()._meta.db_table not in connection.introspection.table_names():
        return
    compare(_table().objects.order_by("first_used_at").values_list("id", "check_value"))


def compare(registered: Iterable[tuple[str, bytes]]) -> None:
    """Hold the keyring against the ids and check values of a database.

    Raises `UnknownKey` for an id that is missing and `VaultError` for one whose key is another one.
    """
    for key_id, check_value in registered:
        try:
            keyring().open(bytes(check_value), _identity(key_id))
        except UnknownKey:
            raise UnknownKey(
                f"This database is sealed under encryption key {key_id!r}, which ENCRYPTION_KEYS does not hold.",
                details={"key_id": key_id},
            ) from None
        except Unreadable:
            raise VaultError(
                f"This database is sealed under an encryption key {key_id!r} that is not the one of that id in "
                "ENCRYPTION_KEYS.",
                details={"key_id": key_id},
            ) from None


def register_writing_key() -> None:
    """Record the key that this process writes with, after `verify_keys` has found that it belongs here."""
    verify_keys()
    key_id = keyring().writing_key_id
    _table().objects.get_or_create(
        id=key_id, defaults={"check_value": bytes(keyring().seal(_CHECK_PLAINTEXT, _identity(key_id)))}
    )
