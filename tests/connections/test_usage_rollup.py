"""Counters from Valkey into the database, each call exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from connections import usage_rollup
from connections.client import usage, usage_store
from connections.models import CallPeriod, ExternalApiConnection
from connections.tasks import roll_up_usage
from tests.factories import make_connection

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_counters() -> Iterator[None]:
    with usage.drain():
        pass
    yield
    with usage.drain():
        pass


def row(pk: str) -> ExternalApiConnection:
    return ExternalApiConnection.objects.get(pk=pk)


def test_counts_are_added_once() -> None:
    first, second = make_connection(), make_connection()
    for at in (1_700_000_000, 1_780_000_000, 1_750_000_000):
        usage.record(first.pk, {"calls": 1, "errors": int(at == 1_750_000_000)}, at=at)
    usage.record(second.pk, {"calls": 1}, at=1_600_000_000)
    usage.record("conn_purged_since", {"calls": 1}, at=1_600_000_000)
    assert usage_rollup.roll_up() == 2
    assert usage_rollup.roll_up() == 0
    found = row(first.pk)
    assert (found.calls_count, found.errors_count) == (3, 1)
    assert found.last_used_at == datetime.fromtimestamp(1_780_000_000, UTC)
    assert row(second.pk).calls_count == 1


def test_the_task_adds_to_what_is_there_and_never_turns_last_use_back() -> None:
    stored = make_connection()
    ExternalApiConnection.objects.update(
        calls_count=10, errors_count=5, last_used_at=datetime.fromtimestamp(1_790_000_000, UTC)
    )
    usage.record(stored.pk, {"calls": 1, "errors": 1}, at=1_780_000_000)
    roll_up_usage()
    found = row(stored.pk)
    assert (found.calls_count, found.errors_count) == (11, 6)
    assert found.last_used_at == datetime.fromtimestamp(1_790_000_000, UTC)


def test_a_failed_write_loses_nothing() -> None:
    stored = make_connection()
    usage.record(stored.pk, {"calls": 1}, at=1_780_000_000)

    def refuse(execute: object, sql: str, *args: object) -> None:
        if sql.lstrip().startswith("UPDATE"):
            raise DatabaseError("gone")
        return execute(sql, *args)  # type: ignore[operator, no-any-return]

    with connection.execute_wrapper(refuse), pytest.raises(DatabaseError):
        usage_rollup.roll_up()
    assert row(stored.pk).calls_count == 0
    assert usage_rollup.roll_up() == 1
    assert row(stored.pk).calls_count == 1


def test_no_history_row_is_written() -> None:
    stored = make_connection()
    before = stored.history.count()
    usage.record(stored.pk, {"calls": 1}, at=1_780_000_000)
    usage_rollup.roll_up()
    assert stored.history.count() == before


def test_the_beat_schedule_names_the_task() -> None:
    from config.celery import app

    app.loader.import_default_modules()
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)


def test_a_roll_up_that_broke_off_after_its_commit_is_not_added_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = make_connection()
    usage.record(stored.pk, {"calls": 1}, at=1_780_000_000)

    @contextmanager
    def never_forgotten() -> Iterator[usage.Batch]:
        with suppress(ZeroDivisionError), usage.drain() as batch:
            yield batch
            raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(usage_rollup, "drain", never_forgotten)
        assert usage_rollup.roll_up() == 1
    usage.record(stored.pk, {"calls": 1, "errors": 1}, at=1_780_000_001)
    assert [usage_rollup.roll_up(), usage_rollup.roll_up()] == [0, 1]
    assert (row(stored.pk).calls_count, row(stored.pk).errors_count) == (2, 1)


def test_a_clock_that_was_ahead_leaves_no_use_and_no_figures_to_come() -> None:
    stored, now = make_connection(), timezone.now()
    usage.record(stored.pk, {"calls": 1}, at=now.timestamp() + 1e7)
    usage_rollup.roll_up()
    found = row(stored.pk)
    assert found.last_used_at is not None
    assert abs(found.last_used_at - now) < timedelta(minutes=1)
    assert not CallPeriod.objects.filter(starts_at__gt=timezone.now()).exists()
    assert CallPeriod.objects.get(connection=stored, step="minute").figures == {"calls": 1}


def test_very_much_is_taken_in_parts_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_store, "_MOST_TAKEN", 1000)
    rows = [make_connection() for _ in range(3)]
    for stored in rows:
        for minute in range(400):
            usage.record(stored.pk, {"calls": 2, "errors": 1, "us": 3}, at=1_780_000_000 + 60 * minute)
    with usage.drain() as batch:
        taken = sum(len(bag) for bag in batch.periods.values()) + len(batch.counts)
        assert batch.is_full
        assert taken < 3 * 400 * 3
    assert usage_rollup.roll_up() >= 3
    assert usage_rollup.roll_up() == 0
    first = {stored.pk: 0 for stored in rows}
    for (connection_id, _), bag in batch.periods.items():
        first[connection_id] += bag.get("calls", 0)
    for stored in rows:
        assert row(stored.pk).calls_count == 800 - first[stored.pk]
        days = CallPeriod.objects.filter(connection=stored, step="day")
        assert sum(day.figures["calls"] for day in days) == 800 - first[stored.pk]


def test_what_tells_of_no_use_moves_none() -> None:
    """As a body that breaks off after its call was counted."""
    never, before = make_connection(), make_connection()
    used = datetime.fromtimestamp(1_700_000_000, UTC)
    ExternalApiConnection.objects.filter(pk=before.pk).update(last_used_at=used)
    for connection_ in (never, before):
        usage.record(connection_.pk, {"errors": 1}, at=1_700_000_000)
    usage_rollup.roll_up()
    assert (row(never.pk).errors_count, row(never.pk).last_used_at) == (1, None)
    assert row(before.pk).last_used_at == used
