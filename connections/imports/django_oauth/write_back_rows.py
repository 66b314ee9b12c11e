"""Begins, and ends, that renewed tokens also go to the old rows."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Count, Q
from django.utils import timezone

from connections.imports.django_oauth import digests
from connections.imports.django_oauth.old_database import Address
from connections.imports.django_oauth.old_rows import OldRow
from connections.models import ExternalApiConnection, ImportRun, OldDatabase, WriteBack
from external_apis import audit
from external_apis.errors import NotFound

__all__ = ["begin", "error_of", "forget_unused", "open_database", "release", "standing"]

Pair = tuple[OldRow, ExternalApiConnection]


def open_database(run: ImportRun, address: Address) -> tuple[OldDatabase, bool]:
    """Return where a run's tokens are written back to, its URL sealed, and whether it is new; in a transaction."""
    found = OldDatabase.objects.filter(run=run).first()
    if found is not None:
        return found, False
    secrets = {"url": address.url} if address.url else {}
    made = OldDatabase.objects.create(run=run, tenant=run.tenant, source=address.describe()[:500], secrets=secrets)
    audit.record("write_back.begun", made, {"source": [None, made.source]})
    return made, True


def begin(old_database: OldDatabase, new: Sequence[Pair], again: Sequence[Pair]) -> None:
    """Write back to these rows from now on, and at once where a connection's tokens are newer; one query.

    ``new`` are those that were made just now; others, loaded with their ``write_back``, may have one already.
    """
    pairs = [*new, *(pair for pair in again if getattr(pair[1], "write_back", None) is None)]
    WriteBack.objects.bulk_create([_write_back(old_database, row, connection) for row, connection in pairs])


def standing(connection: ExternalApiConnection) -> frozenset[str]:
    """Return the digests of what we have written into a connection's old row, if anything is."""
    row: WriteBack | None = getattr(connection, "write_back", None)
    return frozenset(row.stands.values()) if row is not None else frozenset()


def error_of(connection: ExternalApiConnection) -> str:
    """Return why a connection's old row does not hold the newest tokens, if anything is written there."""
    row: WriteBack | None = getattr(connection, "write_back", None)
    return row.error if row is not None else ""


def forget_unused(run: ImportRun) -> bool:
    """Forget the URL of a run that has no row left to write back to; tell whether it did. In a transaction."""
    found = OldDatabase.objects.select_for_update(of=("self",)).filter(run=run, write_backs=None).first()
    if found is None:
        return False
    audit.record("write_back.released", found, {"source": [found.source, None]})
    found.delete()
    return True


def release(run: ImportRun | None) -> tuple[int, int]:
    """End the write-back of one run, or of all, and forget the database's URL.

    Returns how many rows that were, and how many of them have not been given the newest tokens. In a transaction.
    Raises `NotFound` where nothing is written back.
    """
    databases = OldDatabase.objects.all() if run is None else OldDatabase.objects.filter(run=run)
    found = list(databases.select_for_update())
    if not found:
        raise NotFound("Nothing is written back" + (f" for {run.pk}." if run else "."))
    pending = Q(due_at__isnull=False) | ~Q(error="")
    counts = WriteBack.objects.filter(old_database__in=found).aggregate(
        rows=Count("pk"), pending=Count("pk", filter=pending)
    )
    for one in found:
        audit.record("write_back.released", one, {"source": [one.source, None]})
        one.delete()
    return counts["rows"], counts["pending"]


def _write_back(old_database: OldDatabase, row: OldRow, connection: ExternalApiConnection) -> WriteBack:
    assert row.tokens is not None  # noqa: S101 (tells the type checker)
    there, here = digests.plain(row.tokens), digests.plain_of_stored(connection.credential.secrets)
    return WriteBack(
        connection=connection,
        tenant_id=connection.tenant_id,
        old_database=old_database,
        kind=row.kind,
        number=row.number,
        stands={there: there},
        due_at=None if there == here else timezone.now(),
    )
