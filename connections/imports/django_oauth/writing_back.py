"""Gives old rows the tokens that were renewed here, a while after their commit: what fails there harms nothing here.

Before a row is written the digest of what it is about to hold is stored beside that of what it holds, so that whoever
comes after a crash in between takes neither for the doing of somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import groupby

import psycopg
import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from connections import due_work, stopping
from connections.imports.django_oauth import digests
from connections.imports.django_oauth.old_database import Address, Session, open_session
from connections.imports.django_oauth.old_row_writing import Renewed, write
from connections.models import ExternalApiCredential, ImportedRow, ImportRun, OldDatabase, WriteBack
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError, ServiceUnavailable, VaultError

__all__ = ["write_back_due"]

log = structlog.get_logger(__name__)

_LEASE = timedelta(minutes=5)
_AT_ONCE = 100
_SECONDS_OF_A_DATABASE = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=15)


def write_back_due() -> int:
    """Write whatever is due to the old databases; return how many rows were written.

    A database that is away, or takes too long, is tried again later, less and less often, with all that waits for it;
    so is a row alone that is locked, or must not be written now. Raises Django's errors of our own.
    """
    count = 0
    with stopping.watched() as is_told:
        while not is_told():
            rows = due_work.claim(WriteBack, _AT_ONCE, _LEASE)
            if not rows:
                break
            rows.sort(key=lambda row: row.old_database_id)
            for database_id, group in groupby(rows, key=lambda row: row.old_database_id):
                count += _write_to(database_id, list(group))
    return count


def _write_to(database_id: str, rows: list[WriteBack]) -> int:
    database = OldDatabase.objects.filter(pk=database_id).first()
    if database is None:  # released meanwhile, and the rows are gone with it
        return 0
    renewed = _renewed(rows)
    left = [row for row in rows if row.pk in renewed]
    if not left:
        return 0
    count = 0
    try:
        address = Address(database.secrets.get("url", ""))
        give_back_database_connections()
        with open_session(address, seconds=_SECONDS_OF_A_DATABASE) as session:
            while left:
                count += _write_one(session, left[-1], renewed[left[-1].pk])
                left.pop()
    except ServiceUnavailable as error:
        log.warning("renewed tokens wait for an old database", old_database=database_id, rows=len(left))
        pause = _postpone(left, error.message)
        others = WriteBack.objects.filter(old_database_id=database_id, due_at__lte=timezone.now())
        others.update(due_at=timezone.now() + pause, error=error.message[:500])
    except VaultError as error:
        _give_up(left, error.message)
    return count


def _renewed(rows: Iterable[WriteBack]) -> dict[str, Renewed]:
    """Return what is to be written by row; give up what cannot be."""
    credentials = ExternalApiCredential.objects.in_bulk([row.connection_id for row in rows])
    found = {}
    for row in rows:
        try:
            credential = credentials[row.connection_id]
            one = Renewed(credential.secrets, credential.expires_at)
            if "access_token" not in one.secrets:
                _give_up([row], "The connection has no access token any more.")
                continue
        except (KeyError, VaultError):
            _give_up([row], "The connection's credentials do not open.")
            continue
        found[row.pk] = one
    return found


def _write_one(session: Session, row: WriteBack, renewed: Renewed) -> int:
    try:
        standing = _note(row, renewed.digest, is_written=False)
        if standing is None:
            return 0
        write(session, row.kind, row.number, renewed, standing)
    except ApiManagerError as error:
        _give_up([row], error.message)
        return 0
    except psycopg.Error as error:
        if session.broken:
            raise
        # Of a value that the row cannot hold nothing is to be hoped; the words of such an error may quote it.
        settle = _give_up if isinstance(error, psycopg.DataError | psycopg.IntegrityError) else _postpone
        settle([row], f"The old database refuses the row ({type(error).__name__}).")
        return 0
    _note(row, renewed.digest, is_written=True)
    due_work.settle(row, due_at=None, attempts=0, error="", written_at=Now())
    return 1


def _note(row: WriteBack, digest: str, *, is_written: bool) -> frozenset[str] | None:
    """Store what stands in the old row, or is about to, and return it all; None where it was released meanwhile."""
    with transaction.atomic():
        locked = WriteBack.objects.select_for_update().filter(pk=row.pk).first()
        if locked is None:
            return None
        locked.stands = {digest: digest} if is_written else {**locked.stands, digest: digest}
        locked.save(update_fields=["stands"])
        if is_written:
            _remember(locked, digest)
        return frozenset(locked.stands.values())


def _remember(row: WriteBack, digest: str) -> None:
    """Let later runs know what is ours in the old row, also when nothing is written back any more."""
    imported = ImportedRow.objects.filter(
        origin__in=ImportRun.objects.filter(old_database=row.old_database_id).values("origin"),
        source_key=f"{row.kind}:{row.number}",
    )
    imported.update(source_digest=digests.keyed(digest, row.tenant_id))


def _postpone(rows: Iterable[WriteBack], reason: str) -> timedelta:
    """Let rows wait for a while, the longer the more often they did; return the longest."""
    longest = _FIRST_PAUSE
    for row in rows:
        pause = min(_FIRST_PAUSE * 2 ** min(row.attempts - 1, 10), _LONGEST_PAUSE)
        due_work.settle(row, due_at=timezone.now() + pause, error=reason[:500])
        longest = max(longest, pause)
    return longest


def _give_up(rows: Iterable[WriteBack], reason: str) -> None:
    for row in rows:
        due_work.settle(row, due_at=None, error=reason[:500])
