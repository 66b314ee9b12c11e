"""Claims and wake-ups are tried where they are used; here is what all of them rely on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
import time_machine
from django.db import connection, transaction
from django.utils import timezone

from connections import wakeups
from connections.due_work import claim
from connections.models import Grant, GrantEvent, WebhookEvent
from connections.oauth import leases, notices
from tests.factories import make_connection
from tests.inbound import make_webhook_event, webhook_provider
from tests.queues import routed

pytestmark = pytest.mark.django_db(transaction=True)
_QUEUE = "test-wakeups"


@pytest.fixture
def queue() -> Iterator[redis.Redis]:
    """The broker's own list, of a queue that no worker serves."""
    with routed("connections.nothing", _QUEUE) as client:
        yield client


def _length(queue: redis.Redis) -> int:
    wakeups._waker.flush(5)
    return int(queue.llen(_QUEUE))


def test_many_calls_are_few_messages(queue: redis.Redis) -> None:
    for _ in range(500):
        wakeups.wake("connections.nothing")
    assert 1 <= _length(queue) <= 20


def test_nothing_is_sent_before_the_commit_or_without_it(queue: redis.Redis) -> None:
    with transaction.atomic():
        wakeups.wake("connections.nothing")
        assert _length(queue) == 0
    assert _length(queue) == 1
    with transaction.atomic():
        wakeups.wake("connections.nothing")
        transaction.set_rollback(True)
    assert _length(queue) == 1


def test_whoever_has_no_transaction_borrows_no_connection_to_find_out(queue: redis.Redis) -> None:
    connection.close()
    wakeups.wake("connections.nothing")
    assert connection.connection is None
    assert _length(queue) == 1


def test_rows_of_work_have_one_index_of_their_keys() -> None:
    """Each further one would be written with every event, delivery and step."""
    tables = ["external_apis_outboxevent", "connections_webhookevent", "connections_webhookdelivery"]
    tables += ["connections_deliveryattempt", "connections_workflowrun", "connections_workflowstep"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s)", [tables])
        found = dict(cursor.fetchall())
    assert len(found) > len(tables)
    assert not [name for name, made in found.items() if "pattern_ops" in made and "(id " in made]
    assert not [name for name, made in found.items() if "outboxevent" in name and "(tenant_id" in made]


def test_claims_go_by_the_databases_clock() -> None:
    now, api = timezone.now(), webhook_provider()
    make_webhook_event(api, event_id="due", due_at=now - timedelta(seconds=1))
    make_webhook_event(api, event_id="later", due_at=now + timedelta(minutes=10))
    with time_machine.travel(now + timedelta(hours=1)):
        (row,) = claim(WebhookEvent, 5, timedelta(minutes=1))
        assert claim(WebhookEvent, 5, timedelta(minutes=1)) == []
    assert (row.event_id, row.fence, row.attempts) == ("due", 1, 1)
    assert row.due_at is not None
    assert timedelta(seconds=50) < row.due_at - now < timedelta(minutes=2)


@pytest.mark.parametrize("what", ["work", "grants", "notices"])
def test_no_plan_takes_more_than_the_limit(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table that held one row when it was last looked at, the planner reads all rows and joins to each."""
    monkeypatch.setattr(notices, "_BATCH", 1)
    now, api = timezone.now(), webhook_provider()

    def make(number: int) -> None:
        match what:
            case "work":
                make_webhook_event(api, event_id=f"evt_{number}", due_at=now)
            case "grants":
                Grant.objects.update_or_create(connection=make_connection(), defaults={"due_at": now})
            case _:
                GrantEvent.objects.create(connection=make_connection(), kind="revoked", mail_due=True)

    make(0)
    table = {"work": WebhookEvent, "grants": Grant, "notices": GrantEvent}[what]._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {table}")
    make(1)
    make(2)
    match what:
        case "work":
            assert len(claim(WebhookEvent, 1, timedelta(minutes=1))) == 1
        case "grants":
            assert len(leases.claim_due(1)) == 1
        case _:
            assert len(notices._claim()) == 1
