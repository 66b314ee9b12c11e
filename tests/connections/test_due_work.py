"""Claims and wake-ups are tried where they are used; here is what all of them rely on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from django.db import transaction

from connections import wakeups
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
        time.sleep(0.1)  # two rounds of the thread
        assert queue.llen(_QUEUE) == 0
    assert _length(queue) == 1
    with transaction.atomic():
        wakeups.wake("connections.nothing")
        transaction.set_rollback(True)
    assert _length(queue) == 1
