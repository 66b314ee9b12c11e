"""Begin, go on with and end a run; note what each batch made, in the batch's own transaction.

Broken off anywhere, even by ``kill -9``, a run stands where its last batch was committed. Whoever begins an import of
the same source goes on from there; somebody else who is still at it stops at the next batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connection, models, transaction
from django.utils import timezone

from connections.imports.fingerprints import fingerprint
from connections.models import (
    ExternalApiCredential,
    ImportedRow,
    ImportKind,
    ImportOutcome,
    ImportRun,
    ImportState,
)
from external_apis import audit, bulk_insert, request_context
from external_apis.errors import ApiManagerError, Conflict, NotFound
from external_apis.ids import can_name
from external_apis.models import Tenant

__all__ = [
    "Imported",
    "begin",
    "fail",
    "find",
    "finish",
    "forget",
    "hold",
    "interrupt",
    "known",
    "origins_for_others",
    "preview",
    "record",
    "set_report",
    "underway",
]

_RESUMABLE = (ImportState.RUNNING, ImportState.INTERRUPTED, ImportState.FAILED)


@dataclass(frozen=True)
class Imported:
    """One row here that a batch made (``created``) or changed (``updated``) from what ``source_key`` names.

    Of a connection the credential is given as well. ``source_digest`` may say what the source looked like, in at most
    64 characters that hold no secret in clear; ``token_digest`` is that of its refresh token (`refresh_tokens.digest`).
    """

    source_key: str
    row: models.Model
    credential: ExternalApiCredential | None = None
    outcome: str = ImportOutcome.CREATED
    source_digest: str = ""
    token_digest: str = ""


def begin(kind: ImportKind, source: str, *, identity: str = "", tenant: Tenant | None = None) -> ImportRun:
    """Return the run to work on: the unfinished one of this source, whose ``position`` and ``counts`` say how far it
    is, or a new one.

    ``source`` describes the source to people and holds no secret; ``identity`` is what makes it the same one next time,
    unless given its description.
    """
    origin = _origin(kind, identity or source, tenant.pk if tenant else None)
    context = request_context.current()
    with transaction.atomic():
        _lock(origin)
        run = ImportRun.objects.filter(origin=origin).order_by("-id").first()
        if run is not None and run.state in _RESUMABLE:
            run.fence, run.state, run.error_message = run.fence + 1, ImportState.RUNNING, ""
            run.save(update_fields=["fence", "state", "error_message"])
            audit.record("import.resumed", run)
            return run
        run = ImportRun.objects.create(
            kind=kind,
            source=source[:500],
            origin=origin,
            tenant=tenant,
            actor=context.actor or "system",
            request_id=context.request_id,
        )
        audit.record("import.started", run, {"kind": [None, run.kind], "source": [None, run.source]})
    return run


def hold(kind: ImportKind, source: str, *, identity: str = "", tenant: Tenant | None = None) -> None:
    """Let nobody else import the same source until this transaction ends: for an import that is one transaction, to
    see what another one has stored."""
    _lock(_origin(kind, identity or source, tenant.pk if tenant else None))


def forget(run: ImportRun, made: Sequence[Imported]) -> None:
    """Forget what earlier runs of the source created under the same keys, before `record` notes it anew.

    For an importer that looks for what is here by other means than `known`: what it creates again is gone, or is no
    longer what its source makes. A query for each of them.
    """
    before = ImportedRow.objects.filter(origin=run.origin, outcome=ImportOutcome.CREATED)
    for one in made:
        if one.outcome == ImportOutcome.CREATED:
            before.filter(source_key=one.source_key, object_type=one.row._meta.model_name).delete()


def record(
    run: ImportRun,
    made: Sequence[Imported],
    counts: Mapping[str, int],
    position: Mapping[str, Any] | None = None,
) -> None:
    """Note a batch, in the transaction that stores it: what it made, how many rows became what, where the next begins.

    ``counts`` are of this batch (``created``, ``updated``, ``recognised``, ``skipped``, ``failed``) and are added up;
    None leaves the position. A few queries, however many rows. Raises `Conflict` where somebody else has gone on with
    the run, so that nothing of the batch is stored, and `RuntimeError` outside of a transaction.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("What a batch made is noted in the transaction that stores it.")
    mine = ImportRun.objects.filter(pk=run.pk, fence=run.fence, state=ImportState.RUNNING)
    stored = mine.select_for_update(no_key=True).values_list("counts", "position").first()
    if stored is None:
        raise Conflict(f"Somebody else goes on with {run.pk}, or has undone it.")
    # Not what this process remembers: a batch may have been rolled back since.
    run.counts = {name: stored[0].get(name, 0) + counts.get(name, 0) for name in {**stored[0], **counts}}
    run.position = stored[1] if position is None else dict(position)
    mine.update(counts=run.counts, position=run.position)
    bulk_insert.insert([_imported_row(run, one) for one in made])


def finish(run: ImportRun) -> None:
    """End a run whose source has been read to its end. Raises `Conflict` as `record` does."""
    _end(run, ImportState.FINISHED, "import.finished", finished_at=timezone.now())


def interrupt(run: ImportRun) -> None:
    """Leave a run where it is, to be taken up again. Raises `Conflict` as `record` does."""
    _end(run, ImportState.INTERRUPTED, "import.interrupted")


def fail(run: ImportRun, message: str) -> None:
    """The same where something went wrong; ``message`` holds no secret. Raises `Conflict` as `record` does."""
    _end(run, ImportState.FAILED, "import.failed", error_message=message)


@contextmanager
def underway(run: ImportRun, stop: object = None) -> Iterator[None]:
    """End a run as the block ends: finished, interrupted where ``stop`` is true or Ctrl-C came, failed at an error."""
    try:
        yield
    except KeyboardInterrupt:
        interrupt(run)
        raise
    except Exception as error:
        with suppress(Conflict, DatabaseError):  # the first error is the one to tell of
            fail(run, error.message if isinstance(error, ApiManagerError) else type(error).__name__)
        raise
    if stop:
        interrupt(run)
    else:
        finish(run)


def set_report(run: ImportRun, path: str) -> None:
    """Note where the failed rows are written; of a name that is no text, or too long, as much as can be kept."""
    path = path.encode(errors="backslashreplace").decode()[:1_000]
    ImportRun.objects.filter(pk=run.pk).update(report_path=path)
    run.report_path = path


def find(run_id: str, kind: ImportKind) -> ImportRun:
    """Return a run of this kind by its id. Raises `NotFound`."""
    rows = ImportRun.objects.select_related("tenant").filter(pk=run_id, kind=kind)
    run = rows.first() if can_name(run_id) else None
    if run is None:
        raise NotFound(f"There is no import {run_id!a} of this kind.")
    return run


def preview(kind: ImportKind, source: str, *, identity: str = "", tenant: Tenant | None = None) -> ImportRun:
    """Return a run that is not stored, for a dry run that wants to know what is `known` of the same source."""
    origin = _origin(kind, identity or source, tenant.pk if tenant else None)
    return ImportRun(kind=kind, source=source[:500], origin=origin, tenant=tenant)


def known(run: ImportRun, source_keys: Iterable[str]) -> dict[tuple[str, str], ImportedRow]:
    """Return what was imported before of these, from the same source, by source key and type of object.

    The last of each; one query. An object that was deleted here since is still known.
    """
    rows = ImportedRow.objects.filter(origin=run.origin, source_key__in=list(source_keys)).order_by("id")
    return {(row.source_key, row.object_type): row for row in rows}


def origins_for_others(run: ImportRun, identity: str) -> list[str]:
    """Return the origins under which the same source was imported for other tenants, or for none."""
    tenants = ImportRun.objects.filter(kind=run.kind).order_by().values_list("tenant_id", flat=True).distinct()
    return sorted({_origin(run.kind, identity, tenant_id) for tenant_id in tenants} - {run.origin})


def _lock(origin: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"import {origin}"])


def _end(run: ImportRun, state: ImportState, action: str, **fields: Any) -> None:
    with transaction.atomic():
        rows = ImportRun.objects.filter(pk=run.pk, fence=run.fence, state=ImportState.RUNNING)
        if not rows.update(state=state, **fields):
            raise Conflict(f"Somebody else goes on with {run.pk}, or has undone it.")
        audit.record(action, run, {"counts": [None, run.counts]})
    run.state = state
    for name, value in fields.items():
        setattr(run, name, value)


def _imported_row(run: ImportRun, one: Imported) -> ImportedRow:
    return ImportedRow(
        run_id=run.pk,
        origin=run.origin,
        source_key=one.source_key,
        source_digest=one.source_digest,
        token_digest=one.token_digest,
        object_type=one.row._meta.model_name or "",
        object_id=one.row.pk,
        outcome=one.outcome,
        fingerprint=fingerprint(one.row, one.credential),
    )


def _origin(kind: str, identity: str, tenant_id: str | None) -> str:
    text = "\n".join((kind, identity, tenant_id or ""))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
