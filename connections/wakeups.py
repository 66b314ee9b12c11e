"""Tells a worker that there is work: many calls within a moment are one message, and nobody waits for it.

Only the quick way: whatever is due is found by the sweeps that Celery beat starts every few seconds, so a message that
is lost costs those seconds and nothing else.
"""

from __future__ import annotations

import logging

from celery import current_app
from django.db import connection, transaction
from kombu.exceptions import OperationalError

from connections.coalescer import Coalescer

__all__ = ["wake"]

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.2
_EXPIRES_SECONDS = 30


def wake(task: str) -> None:
    """Have a worker run a task soon after the present transaction's commit; its name is Celery's."""
    if connection.in_atomic_block:
        transaction.on_commit(lambda: _want(task))
    else:  # which `on_commit` would borrow a connection to find out
        _want(task)


def _want(task: str) -> None:
    _waker.put(lambda wanted: wanted.setdefault(task))


def _send_all(wanted: dict[str, None]) -> None:
    """Send what was asked for, which finds the rows that were committed before."""
    for task in sorted(wanted):
        _send(task)


def _send(task: str) -> None:
    try:
        current_app.send_task(task, expires=_EXPIRES_SECONDS, retry=False, ignore_result=True)
    except (OperationalError, OSError) as error:
        logger.warning("%s was not woken (%s); it runs by its schedule", task, type(error).__name__)


_waker = Coalescer("wakeups", _send_all, pause_seconds=_PAUSE_SECONDS)
