"""Reads the old tables batch by batch into an `Importer`, each batch in one transaction here.

While a batch is stored its old rows are locked, where the old database's user may do that: what the old system has
renewed by then is read, and what it renews later waits, and is noticed by the next run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from django.db import transaction

from connections.imports import refresh_tokens, runs
from connections.imports.django_oauth import allauth, social_auth, write_back_rows
from connections.imports.django_oauth.batches import Importer
from connections.imports.django_oauth.old_database import Address, Session, identify, open_session
from connections.imports.django_oauth.old_rows import OldApp
from connections.imports.django_oauth.tables import OldTable, find_tables
from connections.imports.progress import Meter
from connections.models import OldDatabase

__all__ = ["Plan", "import_tables", "look"]

BATCH_SIZE = 500


class Plan:
    """What there is to import: tables, remarks, how many rows each holds, and which database it is."""

    def __init__(self, session: Session, address: Address) -> None:
        self.identity = identify(session, address, social_auth.TABLE, allauth.TABLE, allauth.APP)
        self.tables, self.apps, self.notes = find_tables(session)
        self.total = sum(table.count(session) for table in self.tables)


def look(address: Address) -> Plan:
    """Find the old tables. Raises `InvalidInput` where there are none, `ServiceUnavailable` for a database away."""
    with open_session(address) as session:
        return Plan(session, address)


def import_tables(
    importer: Importer,
    address: Address,
    tables: Sequence[OldTable],
    apps: Sequence[OldApp],
    *,
    meter: Meter,
    stop: object,
    writes_back: bool = False,
) -> None:
    """Take every app, and every row from where the run stands; end after the batch in which ``stop`` becomes true.

    A run that begins to write back goes through all rows again. A dry run does the same in one transaction, which it
    rolls back. Raises `ServiceUnavailable`; what was stored by then stays, and the run goes on there.
    """
    run = importer.run
    with ExitStack() as stack:
        session = stack.enter_context(open_session(address))
        if importer.is_applied:
            stack.enter_context(runs.underway(run, stop))
        else:
            stack.enter_context(transaction.atomic())
            stack.callback(transaction.set_rollback, True)
        position = run.position
        old_database: OldDatabase | None = None
        if writes_back:
            with transaction.atomic():
                old_database, is_new = write_back_rows.open_database(run, address)
            position = {} if is_new else position
        with _storing(importer):
            made = importer.take_apps(apps)
            if made and importer.is_applied:
                runs.record(run, made, {})
        for table in _rest(tables, position.get("table")):
            after = int(position.get("after", -1)) if position.get("table") == table.kind else -1
            while not stop:
                before = importer.tally.counts.copy()
                with _storing(importer):  # before the old system's rows are held
                    rows = table.read(session, after, BATCH_SIZE, locks=importer.is_applied)
                    if not rows:
                        break
                    after = rows[-1].number
                    made = importer.take(rows, old_database)
                    counts = importer.tally.counts - before
                    if importer.is_applied:
                        runs.record(run, made, counts, {"table": table.kind, "after": after})
                session.rollback()
                meter.advance(len(rows), failed=counts["failed"])


@contextmanager
def _storing(importer: Importer) -> Iterator[None]:
    """Open a transaction in which no other import stores, unless nothing is going to be."""
    with transaction.atomic():
        if importer.is_applied:
            refresh_tokens.let_nobody_else_store()
        yield


def _rest(tables: Sequence[OldTable], kind: str | None) -> Sequence[OldTable]:
    kinds = [table.kind for table in tables]
    return tables[kinds.index(kind) :] if kind in kinds else tables
