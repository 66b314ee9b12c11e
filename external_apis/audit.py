"""Record who did what, in the transaction of the change itself: without the record there is no change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import connection, models, transaction

from external_apis import bulk_insert, outbox, request_context
from external_apis.bulk_insert import MANY
from external_apis.event_types import EVENT_TYPES
from external_apis.models import AuditEvent

__all__ = ["build", "changed_fields", "record", "record_about", "record_reading", "store"]

# The last ones are facts about secrets, of which the fingerprints are enough, and what others count and note.
_UNTOLD = frozenset(
    {
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "secrets",
        "secret_hints",
        "digest",
        "public_part",
        "password",
        "last_login",
    }
)
# What an import keeps of an old row, whatever its vendor once answered: that it is there says enough.
_UNREPEATED = "imported_from"


def record(action: str, row: models.Model, changes: Mapping[str, Any] | None = None) -> AuditEvent:
    """Write one event about ``row``: ``action`` is ``<object>.<verb in the past>``, such as ``connection.created``.

    Call it inside the transaction of the change (it raises `RuntimeError` outside of one): both are kept, or neither.
    Actor, key, address and request id come from `request_context`. ``changes`` are `changed_fields`, or facts that hold
    no secret.
    """
    return record_about(action, row._meta.model_name or "", str(row.pk), changes, tenant_id=_tenant_of(row))


def record_about(
    action: str,
    object_type: str,
    object_id: str = "",
    changes: Mapping[str, Any] | None = None,
    *,
    tenant_id: str | None = None,
) -> AuditEvent:
    """Write one event about what is no row, or no longer one: an address, a cache, a backup. Else as `record`."""
    event = build(action, object_type, object_id, changes, tenant_id=tenant_id)
    store([event])
    return event


def build(
    action: str,
    object_type: str,
    object_id: str = "",
    changes: Mapping[str, Any] | None = None,
    *,
    tenant_id: str | None = None,
) -> AuditEvent:
    """Return an event with today's actor and request that is not written yet, for `store`."""
    context = request_context.current()
    return AuditEvent(
        tenant_id=tenant_id,
        actor=context.actor or "system",
        api_key_id=context.api_key_id,
        address=context.address,
        request_id=context.request_id,
        action=action,
        object_type=object_type,
        object_id=object_id,
        changes=dict(changes or {}),
    )


def store(events: Sequence[AuditEvent]) -> None:
    """Write events in one query however many there are, in the transaction of their changes as `record` does.

    Those that others want to be told of go into the outbox as well (see `event_types`).
    """
    if not connection.in_atomic_block:
        raise RuntimeError("An audit event belongs into the transaction of its change.")
    if len(events) < MANY:
        AuditEvent.objects.bulk_create(events)
    else:
        bulk_insert.insert(events)
    outbox.write([outbox.of_change(event) for event in events if event.action in EVENT_TYPES])


def record_reading(action: str, row: models.Model, names: Iterable[str]) -> AuditEvent:
    """Write and commit the event of a secret's reading, such as ``credentials.read``; ``names`` tells which of them.

    Call it before anything of the secret leaves, outside of any transaction: it raises `RuntimeError` in one, which
    might still be rolled back.
    """
    changes = {"read": sorted(names)}
    if connection.in_atomic_block:
        with transaction.atomic(durable=True):  # which is refused
            return record(action, row, changes)
    # One statement is a transaction of its own, in one round trip for three.
    event = build(action, row._meta.model_name or "", str(row.pk), changes, tenant_id=_tenant_of(row))
    event.save(force_insert=True)
    return event


def changed_fields(row: models.Model, before: models.Model | None = None) -> dict[str, list[Any]]:
    """Return ``{"field": [before, after]}`` of the columns that differ, secrets as their fingerprints.

    ``before`` is a copy of the row as it was loaded; without it, as the row has just been made, all that is set counts
    as changed. Of a JSON column what differs in it is told: ``api_config.rate_limit.requests_per_hour``; of what an
    import kept in one only that it is there.
    """
    found = {}
    for field in row._meta.concrete_fields:
        if field.name in _UNTOLD or field.primary_key:
            continue
        old, new = {} if before is None else dict(_values(field, before)), dict(_values(field, row))
        for path in dict.fromkeys((*old, *new)):
            if old.get(path) != new.get(path):
                found[path] = [old.get(path), new.get(path)]
    return found


def _values(field: Any, row: models.Model | None) -> Iterator[tuple[str, Any]]:
    if row is not None and getattr(row, field.attname) not in (None, "", [], {}):
        yield from _flat(field.attname, field.value_to_string(row))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}", True if name == _UNREPEATED else inner)
    else:
        yield path, value


def _tenant_of(row: models.Model) -> str | None:
    if row._meta.model_name == "tenant":
        return str(row.pk)
    tenant_id = getattr(row, "tenant_id", None)
    return None if tenant_id is None else str(tenant_id)
