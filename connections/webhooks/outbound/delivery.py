"""What runs when there is something to tell, and every few seconds: events are fanned out, due deliveries are made.

Whoever runs it again at the same time takes other endpoints. The row is the truth: a delivery whose worker dies is due
again when its lease is over, with the same message id, by which the receiver knows it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import structlog
from django.db import Error as DatabaseError
from django.utils import timezone

from connections import stopping
from connections.models import DeliveryAttempt, DeliveryStatus
from connections.webhooks.outbound import claims, endpoints
from connections.webhooks.outbound.claims import Ending
from connections.webhooks.outbound.fan_out import fan_out
from connections.webhooks.outbound.lanes import FIRST_LOT, THREADS, Landed, Lanes
from connections.webhooks.outbound.message import Outcome
from connections.webhooks.outbound.rhythm import GIVEN_UP_AFTER, wait_after
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import VaultError
from external_apis.fields import SecretsField
from external_apis.ids import new_id

__all__ = ["Delivered", "deliver_due"]

log = structlog.get_logger(__name__)

_SWEEP_SECONDS = 20.0
# Between two looks for more while something is under way.
_LOOK_SECONDS = 0.5
_STORED_EVERY_SECONDS = 0.1


@dataclass(slots=True)
class Delivered:
    """How many attempts were made, and how many of them succeeded."""

    attempts: int = 0
    delivered: int = 0


def deliver_due(*, seconds: float = _SWEEP_SECONDS, rng: random.Random | None = None) -> Delivered:
    """Fan out what is in the outbox and make what is due; begin nothing after ``seconds``.

    It ends when nothing is left that it may send, or else with the last answer. Raises Django's database errors; what
    was sent and could not be stored is then sent again after the lease.
    """
    until = time.monotonic() + seconds
    # Nothing secret depends on it.
    run = _Run(rng or random.Random())  # noqa: S311
    with stopping.watched() as is_told:
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="webhooks")
        lanes = Lanes(executor)
        try:
            run.go(lanes, lambda: is_told() or time.monotonic() > until)
        except BaseException:
            unsent = lanes.stop()
            executor.shutdown()
            with suppress(DatabaseError):
                run.settle(lanes.take(), lanes)
                claims.release(unsent)
            raise
        executor.shutdown()
    give_back_database_connections()
    return run.done


class _Run:
    """One sweep."""

    def __init__(self, rng: random.Random) -> None:
        self.done = Delivered()
        self._rng = rng
        self._holder = new_id("swp")
        self._looked_at = 0.0

    def go(self, lanes: Lanes, is_over: Callable[[], bool]) -> None:
        is_dry = False
        while not (is_dry and lanes.is_idle):
            unsent = lanes.stop() if is_over() else lanes.overdue()
            claims.release(unsent)
            landed = lanes.take()
            if is_over():
                is_dry = True
            elif landed or lanes.is_idle or time.monotonic() - self._looked_at > _LOOK_SECONDS:
                # First more for the threads to do, then what they have done.
                is_dry = not self._claim(lanes)
            self.settle(landed, lanes)
            lanes.start()
            claims.release(lanes.stranded())
            if not lanes.is_idle and not lanes.wait(_STORED_EVERY_SECONDS):
                _wait_without_database(lanes)

    def _claim(self, lanes: Lanes) -> bool:
        """Look for more to send; False when there is nothing."""
        self._looked_at = time.monotonic()
        found = fan_out() > 0
        for is_failing in (False, True):
            # What the first ones take the second do not have.
            free = lanes.free()[is_failing]
            if not free:
                continue
            # One at a time of those that fail.
            lots, lot = ({}, 1) if is_failing else (lanes.lots(), FIRST_LOT)
            claimed = claims.claim(
                self._holder, lots, lot=lot, endpoints=free, passed=lanes.passed(), failing=is_failing
            )
            self.settle(lanes.add(claimed), lanes)
            lanes.start()
            found = found or bool(claimed)
        return found

    def settle(self, landed: Sequence[Landed], lanes: Lanes) -> None:
        """Store what has landed, and what it says of the endpoints."""
        if not landed:
            return
        endings = [self._ending(item) for item in landed]
        claims.settle(endings)
        self.done.attempts += len(endings)
        self.done.delivered += sum(ending.is_success for ending in endings)
        by_endpoint: dict[str, list[Outcome]] = {}
        for item in landed:
            by_endpoint.setdefault(item.delivery.endpoint_id, []).append(item.outcome)
        for endpoint_id, outcomes in by_endpoint.items():
            _judge(endpoint_id, outcomes, lanes)

    def _ending(self, item: Landed) -> Ending:
        delivery, outcome = item.delivery, item.outcome
        attempt = DeliveryAttempt(
            delivery_id=delivery.pk,
            tenant_id=delivery.tenant_id,
            sent_at=outcome.sent_at,
            url=delivery.endpoint.url,
            duration_ms=outcome.duration_ms,
            status=outcome.status,
            error=outcome.error,
        )
        _seal_answer(attempt, outcome.answer)
        if outcome.is_success:
            return Ending(delivery, attempt, DeliveryStatus.DELIVERED, None)
        log.warning(
            "a webhook was not delivered",
            request_id=delivery.event.request_id,
            delivery_id=delivery.pk,
            endpoint_id=delivery.endpoint_id,
            attempt=delivery.attempts,
            reason=outcome.error,
        )
        wait = wait_after(delivery.attempts, self._rng.random(), outcome.retry_after_seconds)
        if wait is None:
            return Ending(delivery, attempt, DeliveryStatus.FAILED, None)
        return Ending(delivery, attempt, DeliveryStatus.PENDING, timezone.now() + wait)


def _judge(endpoint_id: str, outcomes: Sequence[Outcome], lanes: Lanes) -> None:
    """Note whether an endpoint has begun or stopped to fail, and switch off one that is gone or given up."""
    failing_since = lanes.failing_since(endpoint_id)
    is_working = any(outcome.is_success for outcome in outcomes)
    since = None if is_working else failing_since or min(outcome.sent_at for outcome in outcomes)
    if since != failing_since:
        claims.note_health(endpoint_id, since)
        lanes.note_health(endpoint_id, since)
    if any(outcome.status == 410 for outcome in outcomes):
        endpoints.note_gone(endpoint_id)
    elif since is not None and timezone.now() - since >= GIVEN_UP_AFTER:
        endpoints.give_up_failing(endpoint_id)


def _wait_without_database(lanes: Lanes) -> None:
    """Somebody takes his time: that others may have the database's connection meanwhile."""
    give_back_database_connections()
    lanes.wait(_LOOK_SECONDS)


def _seal_answer(attempt: DeliveryAttempt, answer: str) -> None:
    """Seal before the transaction, in which a key that was not held would be looked for once for each row."""
    field = DeliveryAttempt._meta.get_field("answer")
    assert isinstance(field, SecretsField)  # noqa: S101 (tells the type checker)
    try:
        attempt.answer = field.seal(attempt, {"body": answer} if answer else {})
    except VaultError:
        attempt.answer = field.seal(attempt, {})
