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
from connections.models import WebhookEvent
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
