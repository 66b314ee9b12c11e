"""What the worker does with stored events: runs their handlers, each until it is done, and none twice.

A handler's outcome is stored under the row's fence, for an atomic one together with what it wrote. So whoever was
overtaken leaves nothing behind.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from connections import stopping
from connections.due_work import claim, settle
from connections.models import EventStatus, WebhookEvent
from connections.sweep_slots import in_slot
from connections.webhooks.inbound import turns
from connections.webhooks.inbound.events import read_event, types_of
from connections.webhooks.inbound.handlers import Handler, ReceivedEvent, handlers_of
from connections.webhooks.inbound.receipt import PROCESS
from connections.webhooks.inbound.time_limit import TookTooLong, call_within
from external_apis import audit, request_context
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError
from external_apis.json_output import timestamp
from external_apis.models import ExternalApi

__all__ = ["BACKOFF_SECONDS", "LEASE", "process_due"]

log = structlog.get_logger(__name__)

BACKOFF_SECONDS = (5, 30, 120, 600, 3_600, 21_600)
"""The wait after each failed attempt; up to a fifth is added, so that what failed together does not return together.
After the last one an event is dead."""

_SWEEP_SECONDS, _TURN_SECONDS = 20.0, 2.0
LEASE = timedelta(minutes=2)
_HANDLER_SECONDS = 110.0
"""Less than the lease, which begins anew with each handler."""
_SLOT_MS = 150_000
"""More than the task has until it is killed: a handler may keep the thread from running that keeps the slot."""
_DONE, _FAILED = "done", "failed"
_LONGEST_ACTOR = 200


def process_due(seconds: float = _SWEEP_SECONDS) -> int:
    """Process events until none is due, the time is up, or the worker is to stop; returns how many had their turn.

    Providers take turns of two seconds. Of `INBOUND_SWEEPS` all but one may be at work on the events of one slug, so
    that a handler which hangs leaves one for the others. Any number of sweeps take different events. Raises Django's
    database errors; the event under way is due again later.
    """
    count, until = 0, time.monotonic() + seconds
    with stopping.watched() as is_told:

        def is_over() -> bool:
            return is_told() or time.monotonic() >= until

        while not is_over():
            processed = sum(_take_turn(api_id, slug, is_over) for api_id, slug in turns.waiting())
            if not processed:
                break
            count += processed
    return count


def _take_turn(api_id: str, slug: str, is_over: Callable[[], bool]) -> int:
    count, until = 0, time.monotonic() + _TURN_SECONDS

    def process(*_: object) -> None:
        nonlocal count
        # One by one: whatever becomes of a sweep, it is an attempt of the event alone that it had begun with.
        while (
            not is_over()
            and time.monotonic() < until
            and (rows := claim(WebhookEvent, 1, LEASE, external_api_id=api_id))
        ):
            _process(rows[0], is_over)
            count += 1

    in_slot(PROCESS, max(1, settings.INBOUND_SWEEPS - 1), process, slug or api_id, _SLOT_MS)
    return count


def _process(row: WebhookEvent, is_over: Callable[[], bool]) -> None:
    request_context.start(row.request_id)
    if row.attempts > len(BACKOFF_SECONDS) + 1:
        # The worker died with it each time, and nobody was left to count a failure.
        _bury(row, "began again and again, and never came to an end")
        return
    try:
        problems = _attempt(row, is_over)
    except ExternalApi.DoesNotExist:
        # It was deleted while its last events came in, which no constraint keeps out.
        _bury(row, "its provider is no longer there")
    except Exception as error:  # whatever it is: the others are to have their turn
        problem = _describe(error)
        log.warning("webhook.not_processed", webhook_event=row.pk, error=problem, attempt=row.attempts)
        _end_attempt(row, [problem])
    else:
        if problems is not None:
            _end_attempt(row, problems)


def _attempt(row: WebhookEvent, is_over: Callable[[], bool]) -> list[str] | None:
    """Run the handlers that are not done; return what went wrong, None when the row is no longer this worker's."""
    # Only those due to run are told of; an event without any is done.
    handlers = handlers_of(row.external_api, types_of(row))
    waiting = [handler for handler in handlers if row.results.get(handler.name, {}).get("status") != _DONE]
    if not waiting:
        return []
    # Those that have been tried least come first, so that none waits for ever behind one that takes all the time.
    waiting.sort(key=lambda handler: row.results.get(handler.name, {}).get("attempts", 0))
    event = read_event(row)
    if event.connection is not None:
        row.connection_id = event.connection.pk
    problems: list[str] = []
    for number, handler in enumerate(waiting):
        if number and is_over():
            # The rest is for the next sweep; unless one has failed that is no attempt of theirs.
            if not problems:
                settle(row, due_at=Now(), attempts=row.attempts - 1)
            return problems or None
        with request_context.acting(f"webhook:{handler.name}"[:_LONGEST_ACTOR]):
            is_mine = _run(row, handler, event)
        if not is_mine:
            return None
        result = row.results[handler.name]
        problems += [f"{handler.name}: {result['error']}"] if result["status"] == _FAILED else []
    return problems


def _run(row: WebhookEvent, handler: Handler, event: ReceivedEvent) -> bool:
    """Run one handler and store its outcome; False when the row is another worker's by now."""
    given = replace(event, idempotency_key=f"{row.pk}:{handler.name}")
    tried = row.results.get(handler.name, {}).get("attempts", 0) + 1
    done = {"status": _DONE, "attempts": tried, "at": timestamp(timezone.now())}
    is_callers = connection.in_atomic_block
    try:
        if handler.is_atomic:
            return call_within(_HANDLER_SECONDS, lambda: _run_atomically(row, handler, given, done))
        give_back_database_connections()
        call_within(_HANDLER_SECONDS, lambda: handler.function(given))
    # It may raise anything, and is tried again whatever it was; a worker that is to stop is told in another way.
    except BaseException as error:
        if not is_callers:
            _leave_connection()
        return _note_failure(row, handler, done, _describe(error))
    return _note(row, handler, done)


def _leave_connection() -> None:
    """Take another connection from here on: whatever has failed may have left this one in the midst of something."""
    connection.in_atomic_block = False  # else it would be kept until a block ends that has ended
    connection.close()


def _run_atomically(row: WebhookEvent, handler: Handler, event: ReceivedEvent, done: dict[str, Any]) -> bool:
    with transaction.atomic():
        handler.function(event)
        is_mine = _note(row, handler, done)
        # What was done for nothing, because another worker has the row by now, is undone.
        transaction.set_rollback(not is_mine)
    return is_mine


def _note_failure(row: WebhookEvent, handler: Handler, done: dict[str, Any], problem: str) -> bool:
    """Store that a handler has failed, unless what it wrote was committed together with its being done.

    So it is when a hook of its transaction fails, or when the end of a commit was not learnt because the connection was
    lost or the time was up: the row is locked until that is known.
    """
    facts = {"handler": handler.name, "webhook_event": row.pk, "error": problem, "attempt": done["attempts"]}
    with transaction.atomic():
        mine = WebhookEvent.objects.select_for_update().filter(pk=row.pk, fence=row.fence)
        stored = mine.values_list("results", flat=True).first()
        if stored is None:
            return False
        row.results = stored
        if stored.get(handler.name, {}).get("status") == _DONE:
            log.warning("webhook.hook_failed", **facts)
            return _note(row, handler, {**done, "error": f"after its commit: {problem}"})
        log.warning("webhook.handler_failed", **facts)
        return _note(row, handler, {**done, "status": _FAILED, "error": problem})


def _note(row: WebhookEvent, handler: Handler, result: dict[str, Any]) -> bool:
    """Store a handler's outcome, and have the whole lease for the next one."""
    results = {**row.results, handler.name: result}
    if not settle(row, results=results, due_at=Now() + LEASE):
        return False
    row.results = results
    return True


def _end_attempt(row: WebhookEvent, problems: list[str]) -> None:
    if not problems:
        columns = {"status": EventStatus.PROCESSED, "due_at": None, "finished_at": timezone.now()}
        settle(row, connection_id=row.connection_id, **columns)
    elif row.attempts > len(BACKOFF_SECONDS):
        _bury(row, "; ".join(problems))
    else:
        wait = BACKOFF_SECONDS[row.attempts - 1]
        wait_for = timedelta(seconds=wait + random.uniform(0, wait / 5))  # noqa: S311 (spreads, hides nothing)
        settle(row, due_at=Now() + wait_for, connection_id=row.connection_id)


def _bury(row: WebhookEvent, problem: str) -> None:
    with transaction.atomic():
        columns = {"status": EventStatus.DEAD, "due_at": None, "finished_at": timezone.now()}
        if not settle(row, connection_id=row.connection_id, **columns):
            return
        facts = {"event_id": row.event_id, "event_type": row.event_type, "problem": problem[:1_000]}
        audit.record("webhook.dead", row, facts)
    log.error("webhook.dead", webhook_event=row.pk, external_api_id=row.external_api_id, problem=problem[:1_000])


def _describe(error: BaseException) -> str:
    """What may be stored of an error: an own one's message; of others, which may quote anything, where it arose."""
    if isinstance(error, ApiManagerError):
        return f"{error.code}: {error.message}"[:500]
    if isinstance(error, TookTooLong):
        return f"it took longer than {_HANDLER_SECONDS:g} s"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"[:500]
