"""What is done about keys now and then: note when they were last used, and tell of those that have grown old."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.db import DataError, connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.dispatch import Signal
from django.utils import timezone

from external_apis import audit
from external_apis.key_use import drain_uses
from external_apis.models import ApiKey, AuditEvent

__all__ = ["MAX_AGE", "key_aged", "roll_up_uses", "tell_of_old_keys"]

MAX_AGE = timedelta(days=90)
"""Seed 001: keys are to be replaced at least so often."""

key_aged = Signal()
"""Sent once for a key that is older than `MAX_AGE`, with its ``key_id`` and ``tenant_id``, after the event's commit."""

log = structlog.get_logger(__name__)

_ACTION = "api_key.aged"
_APPLY = f"""
UPDATE {ApiKey._meta.db_table} AS row
SET last_used_at = used.at, last_used_from = used.address
FROM unnest(%s::text[], %s::timestamptz[], %s::inet[]) AS used (id, at, address)
WHERE row.id = used.id AND (row.last_used_at IS NULL OR row.last_used_at < used.at)
"""  # noqa: S608 (our own table's name)


def roll_up_uses() -> int:
    """Bring the noted uses into the keys' rows; returns their number. Raises `ServiceUnavailable` without Valkey."""
    with drain_uses() as uses, connection.cursor() as cursor:
        if not uses:
            return 0
        ids = sorted(uses)
        cursor.execute(_APPLY, [ids, [uses[name].at for name in ids], [uses[name].address for name in ids]])
        return int(cursor.rowcount)


def tell_of_old_keys() -> int:
    """Write one event for each working key that is older than `MAX_AGE` and was not told of; returns their number.

    A row that cannot be read, such as one with a time beyond Python's years, is told in the log and keeps none of the
    others back.
    """
    now = timezone.now()
    told = AuditEvent.objects.filter(action=_ACTION, object_id=OuterRef("pk"))
    old = ApiKey.objects.filter(
        Q(revoked_at=None) | Q(revoked_at__gt=now),
        Q(expires_at=None) | Q(expires_at__gt=now),
        ~Exists(told),
        created_at__lte=now - MAX_AGE,
    )
    return sum(_tell_of(key_id) for key_id in list(old.order_by("pk").values_list("pk", flat=True)))


def _tell_of(key_id: str) -> bool:
    try:
        with transaction.atomic():
            return _record(key_id)
    except DataError:
        log.exception("an API key's row cannot be read", key_id=key_id)
        return False


def _record(key_id: str) -> bool:
    # Held, and looked at again: another process may have told of it in the meantime.
    key = ApiKey.objects.select_for_update().filter(pk=key_id).first()
    if key is None or AuditEvent.objects.filter(action=_ACTION, object_id=key_id).exists():
        return False
    audit.record(_ACTION, key, {"created_at": [None, key.created_at.isoformat()]})
    transaction.on_commit(lambda: key_aged.send_robust(ApiKey, key_id=key_id, tenant_id=key.tenant_id))
    return True
