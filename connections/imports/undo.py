"""Take back what one run created and nobody has used or changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from django.contrib.auth import get_user_model
from django.db import models, transaction
from django.db.models import F, ProtectedError
from django.utils import timezone

from connections.imports.fingerprints import fingerprint
from connections.imports.references import pointed_at
from connections.models import (
    EnvironmentVariable,
    ExternalApiConnection,
    ExternalApiCredential,
    Grant,
    GrantEvent,
    GrantState,
    ImportedRow,
    ImportOutcome,
    ImportRun,
    ImportState,
    WriteBack,
)
from connections.usage_rollup import roll_up
from external_apis import audit
from external_apis.models import Account, AuditEvent, ExternalApi

__all__ = ["MODELS", "Left", "Removable", "Undone", "undo"]

_BATCH_SIZE = 200
_READING = "credentials.read"
_USERS = get_user_model()


@dataclass(frozen=True)
class Left:
    """One row of the run that stays, and why."""

    object_type: str
    object_id: str
    source_key: str
    reason: str


@dataclass
class Undone:
    removed: int = 0
    left: list[Left] = field(default_factory=list)


@dataclass(frozen=True)
class Removable:
    """How rows of one model are taken back.

    ``use_of`` tells how a row has been used, or nothing. Whatever else of another table points at a row keeps it; rows
    of ``own_parts`` go with it, or lose nothing. ``name`` is the audit log's for the object.
    """

    model: type[models.Model]
    name: str
    use_of: Callable[[models.Model], str]
    own_parts: frozenset[type[models.Model]] = frozenset()
    related: tuple[str, ...] = ()


def undo(
    run: ImportRun,
    *,
    stop: object = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Undone:
    """Remove what the run created, the last first, where nobody has used or changed it; say what stays and why.

    Each batch is a transaction, after which ``on_batch`` hears how many went and stayed; when ``stop`` has become true,
    the rest is for the next time. Whoever is still at the run stores nothing any more. What stayed the last time
    is looked at again; what was deleted here is said once and forgotten, so that it can be imported anew.
    """
    _close(run)
    roll_up()  # the last calls are counted in Valkey alone
    undone = Undone()
    below: int | None = None
    while not stop:
        batch = _batch(run, below)
        if not batch:
            break
        below = batch[-1].pk
        with transaction.atomic():
            found = list(_undo_batch(batch))
            removed = len(batch) - len(found)
        undone.removed += removed
        undone.left += found
        if on_batch is not None:
            on_batch(removed, len(found))
    with transaction.atomic():
        audit.record("import.undone", run, {"removed": [None, undone.removed], "left": [None, len(undone.left)]})
    return undone


def _close(run: ImportRun) -> None:
    ended_at = run.finished_at or timezone.now()
    rows = ImportRun.objects.filter(pk=run.pk)
    rows.update(state=ImportState.UNDONE, fence=F("fence") + 1, finished_at=ended_at)
    run.refresh_from_db()


def _batch(run: ImportRun, below: int | None) -> list[ImportedRow]:
    rows = run.rows.order_by("-id")
    return list((rows if below is None else rows.filter(pk__lt=below))[:_BATCH_SIZE])


def _undo_batch(batch: Sequence[ImportedRow]) -> Iterator[Left]:
    """Connections go before the provider that they were made for: groups keep the order of the rows."""
    for (object_type, outcome), group in groupby(batch, key=lambda row: (row.object_type, row.outcome)):
        rows = list(group)
        if outcome == ImportOutcome.UPDATED:
            for row in rows:
                yield _left(row, "was there before the import, and keeps what the import changed")
        else:
            yield from _remove(MODELS[object_type], rows)


def _remove(kind: Removable, rows: list[ImportedRow]) -> Iterator[Left]:
    ids = [row.object_id for row in rows]
    locked = kind.model._default_manager.select_for_update(of=("self",)).select_related(*kind.related)
    found = {str(pk): row for pk, row in locked.in_bulk(ids).items()}
    pointers = pointed_at(kind.model, ids, ignoring=kind.own_parts)
    read = set(AuditEvent.objects.filter(object_id__in=ids, action=_READING).values_list("object_id", flat=True))
    unused: dict[str, ImportedRow] = {}
    deleted: list[int] = []
    for row in rows:
        stored = found.get(row.object_id)
        if stored is not None and (reason := _reason_to_keep(kind, row, stored, pointers, read)):
            yield _left(row, reason)
            if _is_deleted(stored):
                deleted.append(row.pk)
        else:
            unused[row.object_id] = row
    protected = _delete(kind, {pk: found[pk] for pk in unused if pk in found})
    for pk in protected:
        yield _left(unused.pop(pk), "something that others made refers to it")
    ImportedRow.objects.filter(pk__in=[*deleted, *(row.pk for row in unused.values())]).delete()


def _reason_to_keep(
    kind: Removable, row: ImportedRow, stored: models.Model, pointers: Mapping[str, str], read: set[str]
) -> str:
    if _is_deleted(stored):
        return "was deleted here since"
    if fingerprint(stored, _credential_of(stored)) != row.fingerprint:
        return "was changed since"
    if used := kind.use_of(stored):
        return used
    if row.object_id in read:
        return "its secrets were read since"
    if pointer := pointers.get(row.object_id):
        return f"{pointer} refers to it"
    return ""


def _delete(kind: Removable, rows: Mapping[str, models.Model]) -> list[str]:
    """Delete rows, with an event for each; return the ids of those that are protected and stay."""
    if not rows:
        return []
    action, tenant = f"{kind.name}.deleted", {pk: getattr(row, "tenant_id", None) for pk, row in rows.items()}
    try:
        with transaction.atomic():
            kind.model._default_manager.filter(pk__in=list(rows)).delete()
            model_name = kind.model._meta.model_name or ""
            audit.store([audit.build(action, model_name, pk, tenant_id=tenant[pk]) for pk in rows])
    except ProtectedError:
        if len(rows) == 1:
            return list(rows)
        return [kept for pk, row in rows.items() for kept in _delete(kind, {pk: row})]
    return []


def _is_deleted(row: models.Model) -> bool:
    return getattr(row, "deleted_at", None) is not None


def _left(row: ImportedRow, reason: str) -> Left:
    return Left(row.object_type, row.object_id, row.source_key, reason)


def _credential_of(row: models.Model) -> ExternalApiCredential | None:
    return getattr(row, "credential", None)


def _use_of_connection(row: models.Model) -> str:
    if getattr(row, "last_used_at", None) is not None or getattr(row, "calls_count", None):
        return "was used since"
    grant: Grant | None = getattr(row, "grant", None)
    if grant is None:
        return ""
    # A renewal that succeeded has changed the credential.
    if grant.failures or grant.state == GrantState.IN_DOUBT:
        return "its token was to be renewed since"
    if grant.leased_until is not None and grant.leased_until > timezone.now():
        return "its token is being renewed"
    return ""


def _use_of_user(row: models.Model) -> str:
    return "has logged in since" if getattr(row, "last_login", None) is not None else ""


def _unused(row: models.Model) -> str:
    return ""


MODELS: dict[str, Removable] = {
    "externalapiconnection": Removable(
        ExternalApiConnection,
        "connection",
        _use_of_connection,
        own_parts=frozenset({ExternalApiCredential, Grant, GrantEvent, EnvironmentVariable, WriteBack}),
        related=("credential", "grant"),
    ),
    "externalapi": Removable(ExternalApi, "provider", _unused, own_parts=frozenset({EnvironmentVariable})),
    _USERS._meta.model_name or "": Removable(_USERS, "user", _use_of_user, own_parts=frozenset({Account})),
}
"""What a run may have created, by the model's name."""
