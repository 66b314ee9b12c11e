"""Reads the old tables batch by batch into an `Importer`, each batch in one transaction here.

While a batch is stored its old rows are locked, where the old database's user may do that: what the old system has
renewed by then is read, and what it renews later waits, and is noticed by the next run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

from django.db import transaction

from connections.imports import runs
from connections.imports.django_oauth import write_back_rows
from connections.imports.django_oauth.batches import Importer
from connections.imports.django_oauth.old_database import OWN, Address, Session, open_session
from connections.imports.django_oauth.old_rows import OldApp
from connections.imports.django_oauth.tables import OldTable, find_tables
from connections.imports.progress import Meter

__all__ = ["Plan", "import_tables", "look"]

BATCH_SIZE = 500


class Plan:
    """What there is to import: tables, remarks, and how many rows each holds."""

    def __init__(self, session: Session) -> None:
        self.tables, self.apps, self.notes = find_tables(session)
        self.total = sum(table.count(session) for table in self.tables)


def look(address: Address) -> Plan:
    """Find the old tables. Raises `InvalidInput` where there are none, `ServiceUnavailable` for a database away."""
    with open_session(address) as session:
        return Plan(session)


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

    Raises `ServiceUnavailable`; what was stored by then stays, and the run goes on there.
    """
    run = importer.run
    importer.is_own_database = address == OWN
    with ExitStack() as stack:
        session = stack.enter_context(open_session(address))
        if importer.is_applied:
            stack.enter_context(runs.underway(run, stop))
        if writes_back:
            with transaction.atomic():
                importer.old_database = write_back_rows.open_database(run, address)
        with transaction.atomic() if importer.is_applied else nullcontext():
            made = importer.take_apps(apps)
            if made:
                runs.record(run, made, {})
        for table in _rest(tables, run.position.get("table")):
            after = int(run.position.get("after", -1)) if run.position.get("table") == table.kind else -1
            while not stop:
                before = importer.tally.counts.copy()
                with transaction.atomic() if importer.is_applied else nullcontext():
                    rows = table.read(session, after, BATCH_SIZE, locks=importer.is_applied)
                    if not rows:
                        session.rollback()
                        break
                    after = rows[-1].number
                    made = importer.take(rows)
                    counts = importer.tally.counts - before
                    if importer.is_applied:
                        runs.record(run, made, counts, {"table": table.kind, "after": after})
                session.rollback()
                meter.advance(len(rows), failed=counts["failed"])


def _rest(tables: Sequence[OldTable], kind: str | None) -> Sequence[OldTable]:
    kinds = [table.kind for table in tables]
    return tables[kinds.index(kind) :] if kind in kinds else tables
