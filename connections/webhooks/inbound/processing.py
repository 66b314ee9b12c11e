"""What the worker does with stored events: runs their handlers, each until it is done, and none twice.

A handler's outcome is stored under the row's fence, for an atomic one together with what it wrote. So whoever was
overtaken leaves nothing behind.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from connections import stopping
from connections.due_work import claim, settle
from connections.models import EventStatus, WebhookEvent
from connections.webhooks.inbound.events import read_event, types_of
from connections.webhooks.inbound.handlers import Handler, ReceivedEvent, handlers_of
from connections.webhooks.inbound.time_limit import TookTooLong, limited
from external_apis import audit, request_context
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError
from external_apis.json_output import timestamp
from external_apis.models import ExternalApi

__all__ = ["BACKOFF_SECONDS", "process_due"]

log = structlog.get_logger(__name__)

BACKOFF_SECONDS = (5, 30, 120, 600, 3_600, 21_600)
"""The wait after each failed attempt; up to a fifth is added, so that what failed together does not return together.
After the last one an event is dead."""

_SWEEP_SECONDS = 20.0
_LEASE = timedelta(minutes=2)
_HANDLER_SECONDS = 110.0
"""Less than the lease, which begins anew with each handler."""
_DONE, _FAILED = "done", "failed"


def process_due(seconds: float = _SWEEP_SECONDS) -> int:
    """Process events until none is due, the time is up, or the worker is to stop; returns how many had their turn.

    Any number of sweeps take different events. Raises Django's database errors; the event under way is due again later.
    """
    count, until = 0, time.monotonic() + seconds
    with stopping.watched() as is_told:
        # One by one: whatever becomes of a sweep, it is an attempt of the event alone that it had begun with.
        while not is_told() and time.monotonic() < until and (rows := claim(WebhookEvent, 1, _LEASE)):
            _process(rows[0])
            count += 1
    return count


def _process(row: WebhookEvent) -> None:
    request_context.start(row.request_id)
    if row.attempts > len(BACKOFF_SECONDS) + 1:
        # The worker died with it each time, and nobody was left to count a failure.
        _bury(row, "began again and again, and never came to an end")
        return
    try:
        problems = _attempt(row)
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


def _attempt(row: WebhookEvent) -> list[str] | None:
    """Run the handlers that are not done; return what went wrong, None when the row is another worker's by now."""
    # Only those due to run are told of; an event without any is done.
    handlers = handlers_of(row.external_api, types_of(row))
    waiting = [handler for handler in handlers if row.results.get(handler.name, {}).get("status") != _DONE]
    if not waiting:
        return []
    event = read_event(row)
    problems: list[str] = []
    for handler in waiting:
        if not _run(row, handler, event):
            return None
        result = row.results[handler.name]
        problems += [f"{handler.name}: {result['error']}"] if result["status"] == _FAILED else []
    if event.connection is not None:
        row.connection_id = event.connection.pk
    return problems


def _run(row: WebhookEvent, handler: Handler, event: ReceivedEvent) -> bool:
    """Run one handler and store its outcome; False when the row is another worker's by now."""
    given = replace(event, idempotency_key=f"{row.pk}:{handler.name}")
    tried = row.results.get(handler.name, {}).get("attempts", 0) + 1
    done = {"status": _DONE, "attempts": tried, "at": timestamp(timezone.now())}
    committed: list[bool] = []
    try:
        with limited(_HANDLER_SECONDS):
            if handler.is_atomic:
                return _run_atomically(row, handler, given, done, committed)
            give_back_database_connections()
            handler.function(given)
    # It may raise anything, and is tried again whatever it was.
    except (Exception, SystemExit, TookTooLong) as error:
        problem = _describe(error)
        facts = {"handler": handler.name, "webhook_event": row.pk, "error": problem, "attempt": tried}
        if committed:
            # What it wrote is there for good: only what was to happen after that has not.
            log.warning("webhook.hook_failed", **facts)
            return _note(row, handler, {**done, "error": f"after its commit: {problem}"})
        log.warning("webhook.handler_failed", **facts)
        return _note(row, handler, {**done, "status": _FAILED, "error": problem})
    return _note(row, handler, done)


def _run_atomically(
    row: WebhookEvent, handler: Handler, event: ReceivedEvent, done: dict[str, Any], committed: list[bool]
) -> bool:
    with transaction.atomic():
        # The first hook: it tells that the others run, of which any may fail.
        transaction.on_commit(lambda: committed.append(True))
        handler.function(event)
        is_mine = _note(row, handler, done)
        # What was done for nothing, because another worker has the row by now, is undone.
        transaction.set_rollback(not is_mine)
    return is_mine


def _note(row: WebhookEvent, handler: Handler, result: dict[str, Any]) -> bool:
    """Store a handler's outcome, and have the whole lease for the next one."""
    results = {**row.results, handler.name: result}
    if not settle(row, results=results, due_at=timezone.now() + _LEASE):
        return False
    row.results = results
    return True


def _end_attempt(row: WebhookEvent, problems: list[str]) -> None:
    now = timezone.now()
    if not problems:
        settle(
            row,
            status=EventStatus.PROCESSED,
            due_at=None,
            finished_at=now,
            connection_id=row.connection_id,
            results=row.results,
        )
    elif row.attempts > len(BACKOFF_SECONDS):
        _bury(row, "; ".join(problems))
    else:
        wait = BACKOFF_SECONDS[row.attempts - 1]
        due_at = now + timedelta(seconds=wait + random.uniform(0, wait / 5))  # noqa: S311 (spreads, hides nothing)
        settle(row, due_at=due_at, connection_id=row.connection_id)


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
