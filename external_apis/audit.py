"""Record who did what, in the transaction of the change itself: without the record there is no change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connection, models

from external_apis import request_context
from external_apis.models import AuditEvent

__all__ = ["changed_fields", "record"]

_UNTOLD = frozenset(
    {"created_at", "updated_at", "created_by", "updated_by", "secrets", "secret_hints", "digest", "public_part"}
)


def record(action: str, row: models.Model, changes: Mapping[str, Any] | None = None) -> AuditEvent:
    """Write one event about ``row``: ``action`` is ``<object>.<verb in the past>``, such as ``connection.created``.

    Call it inside the transaction of the change (it raises `RuntimeError` outside of one): both are kept, or neither.
    Actor, key, address and request id come from `request_context`. ``changes`` are `changed_fields`, or facts that hold
    no secret.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("An audit event belongs into the transaction of its change.")
    context = request_context.current()
    return AuditEvent.objects.create(
        tenant_id=_tenant_of(row),
        actor=context.actor or "system",
        api_key_id=context.api_key_id,
        address=context.address,
        request_id=context.request_id,
        action=action,
        object_type=row._meta.model_name or "",
        object_id=str(row.pk),
        changes=dict(changes or {}),
    )


def changed_fields(row: models.Model, before: models.Model | None = None) -> dict[str, list[Any]]:
    """Return ``{"field": [before, after]}`` of the columns that differ, secrets as their fingerprints.

    ``before`` is the row as it was loaded; without it, as it has just been made, all that is set counts as changed.
    """
    found = {}
    for field in row._meta.concrete_fields:
        if field.name in _UNTOLD or field.primary_key:
            continue
        old = None if before is None else field.value_to_string(before) if _is_set(before, field) else None
        new = field.value_to_string(row) if _is_set(row, field) else None
        if old != new:
            found[field.attname] = [old, new]
    return found


def _is_set(row: models.Model, field: Any) -> bool:
    return getattr(row, field.attname) not in (None, "", [], {})


def _tenant_of(row: models.Model) -> str | None:
    if row._meta.model_name == "tenant":
        return str(row.pk)
    tenant_id = getattr(row, "tenant_id", None)
    return None if tenant_id is None else str(tenant_id)
