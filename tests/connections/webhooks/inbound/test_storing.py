"""Events that come at the same time are one statement, in which none has to pay for another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import DataError, connection, transaction
from django.utils import timezone

from connections.models import EventStatus, WebhookEvent
from connections.webhooks.inbound import storing
from external_apis.ids import new_id
from tests.inbound import webhook_provider

pytestmark = pytest.mark.django_db(transaction=True)

Rows = Sequence[Mapping[str, Any]]


class Gate:
    """Holds the first statement until ``open``, and notes how many events each has."""

    def __init__(self, insert: Any) -> None:
        self.sizes: list[int] = []
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()
        self._insert = insert

    def __call__(self, rows: Rows) -> set[str]:
        self.sizes.append(len(rows))
        self.has_begun.set()
        assert self.may_go_on.wait(10)
        found: set[str] = self._insert(rows)
        return found


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(storing._insert)
    monkeypatch.setattr(storing, "_insert", gate)
    yield gate
    gate.may_go_on.set()


@pytest.fixture
def api_id() -> str:
    return webhook_provider().pk


def columns(api_id: str, event_id: str, **other: Any) -> dict[str, Any]:
    now = timezone.now()
    row: dict[str, Any] = {"id": new_id("wev"), "external_api_id": api_id, "tenant_id": None, "event_id": event_id}
    row |= {"event_type": "invoice.paid", "types": ["invoice.paid"], "status": EventStatus.RECEIVED.value}
    row |= {"content": b"", "received_at": now, "finished_at": None, "due_at": now, "request_id": "req_1"}
    return {**row, **other}


def store_while_one_is_written(gate: Gate, first: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what became of each event, by its id: whether it was new, or the error."""
    found: dict[str, Any] = {}

    def store(row: dict[str, Any]) -> None:
        try:
            found[row["id"]] = storing.store(row)
        except Exception as error:
            found[row["id"]] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=store, args=(row,)) for row in (first, *others)]
    threads[0].start()
    assert gate.has_begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(storing._queue._waiting) < len(others):
        threading.Event().wait(0.001)
    gate.may_go_on.set()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_those_that_come_during_a_write_are_one_statement(gate: Gate, api_id: str) -> None:
    rows = [columns(api_id, f"evt_{number}") for number in range(8)]
    found = store_while_one_is_written(gate, rows[0], rows[1:])
    assert found == {row["id"]: True for row in rows}
    assert gate.sizes == [1, 7]
    assert set(WebhookEvent.objects.values_list("pk", flat=True)) == set(found)


def test_a_statement_has_a_bound(gate: Gate, api_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_MOST", 3)
    rows = [columns(api_id, f"evt_{number}") for number in range(9)]
    found = store_while_one_is_written(gate, rows[0], rows[1:])
    assert (list(found.values()), gate.sizes) == ([True] * 9, [1, 3, 3, 2])


def test_one_event_twice_in_a_statement_is_new_once(gate: Gate, api_id: str) -> None:
    again = [columns(api_id, "evt_1"), columns(api_id, "evt_1"), columns(api_id, "evt_0")]
    found = store_while_one_is_written(gate, columns(api_id, "evt_0"), again)
    assert sorted(found[row["id"]] for row in again) == [False, False, True]
    assert WebhookEvent.objects.count() == 2


def test_an_event_that_cannot_be_stored_is_alone_in_that(gate: Gate, api_id: str) -> None:
    rows = [columns(api_id, f"evt_{number}") for number in range(4)]
    bad = columns(api_id, "evt_bad", status="longer than the column")
    found = store_while_one_is_written(gate, rows[0], [rows[1], bad, *rows[2:]])
    assert isinstance(found.pop(bad["id"]), DataError)
    assert list(found.values()) == [True] * 4
    assert storing.store(columns(api_id, "evt_afterwards"))
    assert WebhookEvent.objects.count() == 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_ends_hard_leaves_nobody_waiting(
    gate: Gate, api_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def insert(rows: Rows) -> set[str]:
        found = gate(rows)
        if threading.current_thread() is first:
            raise SystemExit
        return found

    monkeypatch.setattr(storing, "_insert", insert)
    first = threading.Thread(target=storing.store, args=(columns(api_id, "evt_0"),))
    first.start()
    assert gate.has_begun.wait(10)
    found: list[bool] = []
    second = threading.Thread(target=lambda: found.append(storing.store(columns(api_id, "evt_1"))))
    second.start()
    gate.may_go_on.set()
    first.join(10)
    second.join(10)
    assert found == [True]


def test_a_transaction_that_is_rolled_back_takes_no_other_event_along(gate: Gate, api_id: str) -> None:
    def store(event_id: str, *, is_rolled_back: bool = False) -> None:
        with transaction.atomic() if is_rolled_back else nullcontext():
            assert storing.store(columns(api_id, event_id))
            if is_rolled_back:
                transaction.set_rollback(True)
        connection.close()

    threads = [threading.Thread(target=store, args=("evt_first",))]
    threads += [threading.Thread(target=store, args=("evt_undone",), kwargs={"is_rolled_back": True})]
    threads += [threading.Thread(target=store, args=("evt_other",))]
    for count, thread in enumerate(threads, 1):
        thread.start()
        # Each is at the gate or in the queue before the next one comes.
        while len(gate.sizes) + len(storing._queue._waiting) < count:
            threading.Event().wait(0.001)
    gate.may_go_on.set()
    for thread in threads:
        thread.join(10)
    assert set(WebhookEvent.objects.values_list("event_id", flat=True)) == {"evt_first", "evt_other"}
