"""Messages of a task in a queue of the test's own, that no worker serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery import current_app
from django.conf import settings


@contextmanager
def routed(task: str, queue: str) -> Iterator[redis.Redis]:
    """Send a task to this queue until the block ends; gives the broker's client, which has the queue as a list."""
    store, before = redis.Redis.from_url(settings.REDIS_URL), current_app.conf.task_routes
    _use({**(before or {}), task: {"queue": queue}})
    store.delete(queue)
    try:
        yield store
    finally:
        _use(before)
        store.delete(queue)


def _use(routes: Any) -> None:
    current_app.conf.task_routes = routes
    current_app.amqp.flush_routes()
    current_app.amqp.router = current_app.amqp.Router()  # type: ignore[misc]  # which has kept those of before
