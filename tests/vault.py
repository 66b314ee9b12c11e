"""Keys and rows of yesterday, for the tests of the vault."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from django.db import connection

from external_apis.crypto import Sealed
from external_apis.keyring import keyring
from external_apis.models import DataKey
from external_apis.models.secret_bearing import SecretBearing


def keys(**bytes_of: int) -> str:
    """``ENCRYPTION_KEYS`` of these ids, each key the same byte 32 times."""
    return ",".join(
        f"{key_id}:{base64.b64encode(bytes([number] * 32)).decode()}" for key_id, number in bytes_of.items()
    )


def stored(row: SecretBearing) -> Sealed:
    """The sealed bytes as the table has them."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT secrets FROM {row._meta.db_table} WHERE {row._meta.pk.column} = %s", [row.pk])
        return Sealed(cursor.fetchone()[0])


def wrapped(key: DataKey) -> bytes:
    """A data key as it is stored."""
    assert key.wrapped is not None
    return bytes(key.wrapped)


def store(row: SecretBearing, sealed: bytes) -> None:
    """Put bytes into the table, past the field."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {row._meta.db_table} SET secrets = %s WHERE {row._meta.pk.column} = %s", [bytes(sealed), row.pk]
        )


def age(rows: Iterable[SecretBearing]) -> None:
    """Seal directly under the writing master key, as the first version did."""
    for row in rows:
        plaintext = json.dumps(dict(row.secrets)).encode()
        store(row, keyring().seal(plaintext, f"{row._meta.label_lower}:{row.pk}:secrets"))
