"""What a row is at a moment, in 64 characters, to tell later whether anybody has changed it since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential

__all__ = ["fingerprint"]

# What is counted and noted by itself, and the sealed column, which a rotation of keys writes anew: of the secrets the
# keyed fingerprints beside it tell.
_BY_ITSELF = frozenset(
    {
        "calls_count",
        "errors_count",
        "error_message",
        "last_login",
        "last_sync_at",
        "last_used_at",
        "secret_hints",
        "secrets",
        "updated_at",
        "updated_by",
    }
)
_ENDS_BY_ITSELF = frozenset({ConnectionStatus.ACTIVE, ConnectionStatus.EXPIRED, ConnectionStatus.ERROR})
_ENCODER = DjangoJSONEncoder(sort_keys=True, separators=(",", ":"))


def fingerprint(row: models.Model, credential: ExternalApiCredential | None = None) -> str:
    """Return the SHA-256 digest of a row's own columns, of a connection those of its credential as well.

    The same before the insert as when the row is read again. Secrets go in as their keyed fingerprints, so nobody can
    search for one; bring those up to date first (``describe_secrets``) where ``save`` was not called.
    """
    values = dict(_values(row))
    if credential is not None:
        values |= {f"credentials.{name}": value for name, value in _values(credential)}
    return hashlib.sha256(_ENCODER.encode(values).encode()).hexdigest()


def _values(row: models.Model) -> Iterator[tuple[str, Any]]:
    for field in row._meta.concrete_fields:
        if field.name in _BY_ITSELF:
            continue
        value = getattr(row, field.attname)
        if isinstance(row, ExternalApiConnection) and field.name == "status" and value in _ENDS_BY_ITSELF:
            continue
        yield field.attname, value.astimezone(UTC) if isinstance(value, datetime) else value
