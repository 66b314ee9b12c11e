"""Which master keys have sealed something in this database: checked before anything is written, kept while writing.

The table is reached through the app registry: the models stand above the encrypted field, and that one needs this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import connection, transaction

from external_apis.errors import RetiredKey, UnknownKey, Unreadable, VaultError
from external_apis.keyring import keyring, reread

_CHECK_PLAINTEXT = b"external-apis"


def _table() -> Any:
    return apps.get_model("external_apis", "EncryptionKey")


def _identity(key_id: str) -> str:
    return f"external_apis.encryptionkey:{key_id}:check_value"


def verify_keys() -> None:
    """Check that the keyring holds every key that this database is sealed under. Reads only; retired keys may be gone.

    Raises as `compare` does. A database without our tables, or with those of an earlier version, is fine.
    """
    table = _table()._meta.db_table
    if table not in connection.introspection.table_names():
        return
    with connection.cursor() as cursor:
        columns = {column.name for column in connection.introspection.get_table_description(cursor, table)}
    # This runs before the migrations do.
    keys = _table().objects.filter(retired_at=None) if "retired_at" in columns else _table().objects.all()
    compare(keys.order_by("first_used_at").values_list("id", "check_value"))


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
    """Record the key that this process writes with. Raises `RetiredKey` where it is no longer to be used."""
    with transaction.atomic():
        hold_writing_key()


def hold_writing_key() -> None:
    """Record the writing key, and keep it from being retired until the surrounding transaction ends.

    Raises `RetiredKey`, after a look into ``ENCRYPTION_KEYS_FILE`` for newer keys.
    """
    key_id = keyring().writing_key_id
    table = _table()
    if not table.objects.filter(id=key_id).exists():
        verify_keys()  # or a process with foreign keys would register its own, and lock out the owner
    table.objects.get_or_create(
        id=key_id, defaults={"check_value": bytes(keyring().seal(_CHECK_PLAINTEXT, _identity(key_id)))}
    )
    if table.objects.select_for_update(no_key=True).get(id=key_id).retired_at is not None:
        replace_retired_key()
        hold_writing_key()


def replace_retired_key() -> None:
    """Take up newer keys from ``ENCRYPTION_KEYS_FILE``. Raises `RetiredKey` where that names no other writing key."""
    retired = keyring().writing_key_id
    if not reread() or keyring().writing_key_id == retired:
        raise RetiredKey(
            f"This process would write with encryption key {retired!r}, which is retired: its ENCRYPTION_KEYS are old, "
            "and it has to be restarted with the new ones.",
            details={"key_id": retired},
        )
