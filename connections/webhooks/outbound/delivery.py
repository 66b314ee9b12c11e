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
from datetime import datetime

import structlog
from django.db import Error as DatabaseError
from django.db import OperationalError
from django.utils import timezone

from connections import stopping
from connections.models import DeliveryAttempt, DeliveryStatus, WebhookEndpoint
from connections.webhooks.outbound import claims, endpoints
from connections.webhooks.outbound.claims import Ending, Health
from connections.webhooks.outbound.fan_out import Pace, fan_out
from connections.webhooks.outbound.lanes import FIRST_LOT, QUICK_ANSWERS, THREADS, Landed, Lanes, ends_turn, is_slow
from connections.webhooks.outbound.message import Outcome
from connections.webhooks.outbound.rhythm import GIVEN_UP_AFTER, wait_after
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import VaultError
from external_apis.fields import SecretsField
from external_apis.ids import new_id

__all__ = ["PACE", "Delivered", "deliver_due"]

log = structlog.get_logger(__name__)

PACE = Pace()

_SWEEP_SECONDS = 20.0
# Between two looks for more while something is under way.
_LOOK_SECONDS = 0.5
_STORED_EVERY_SECONDS = 0.1
_FANNING_SECONDS = 1.0
# How long something may still be sent to an endpoint that was switched off or changed.
_REREAD_SECONDS = 0.2


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
            lanes.stop()
            executor.shutdown()
            with suppress(DatabaseError):
                run.settle(lanes.take(), lanes)
                claims.release(lanes.unsent())
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
        self._looked_at = self._reread_at = 0.0

    def go(self, lanes: Lanes, is_over: Callable[[], bool]) -> None:
        is_dry = False
        while not (is_dry and lanes.is_idle):
            if is_over():
                lanes.stop()
            landed = lanes.take()
            self._reread(lanes)
            claims.release(lanes.unsent())
            has_landed = bool(landed)
            if any(ends_turn(item.outcome) for item in landed):
                # What may be claimed goes by what these say of their endpoints.
                self.settle(landed, lanes)
                landed = []
            if is_over():
                is_dry = True
            elif has_landed or lanes.is_idle or time.monotonic() - self._looked_at > _LOOK_SECONDS:
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
        found = self._fan_out()
        for is_troubled in (False, True):
            # What the first ones take the second do not have.
            free = lanes.free()[is_troubled]
            if not free:
                continue
            # One at a time of those that fail or are slow.
            lots, lot = ({}, 1) if is_troubled else (lanes.lots(), FIRST_LOT)
            claimed = claims.claim(
                self._holder, lots, lot=lot, endpoints=free, passed=lanes.passed(), troubled=is_troubled,
                busy=lanes.busy(),
            )  # fmt: skip
            self.settle(lanes.add(claimed), lanes)
            lanes.start()
            found = found or bool(claimed)
        return found

    def _fan_out(self) -> bool:
        """Fan out for a while; what fails is tried with less, ever later, and keeps nothing that is due from going."""
        until, found = time.monotonic() + _FANNING_SECONDS, False
        try:
            while time.monotonic() < until and not PACE.is_waiting and fan_out(PACE.rows):
                found = True
                PACE.speed_up()
        except OperationalError as error:
            log.warning("events could not be fanned out", rows=PACE.rows, reason=type(error).__name__)
            PACE.slow_down()
            return not PACE.is_waiting
        return found

    def _reread(self, lanes: Lanes) -> None:
        """Give back what is queued for endpoints that were changed or switched off since it was claimed."""
        queued = lanes.queued()
        if queued and time.monotonic() - self._reread_at > _REREAD_SECONDS:
            self._reread_at = time.monotonic()
            now = claims.versions(list(queued))
            for endpoint_id, changed_at in queued.items():
                if now.get(endpoint_id) != changed_at:
                    lanes.drop(endpoint_id)

    def settle(self, landed: Sequence[Landed], lanes: Lanes) -> None:
        """Store what has landed, and what it says of the endpoints."""
        if not landed:
            return
        endings = [self._ending(item) for item in landed]
        claims.settle(endings)
        self.done.attempts += len(endings)
        self.done.delivered += sum(ending.is_success for ending in endings)
        by_version: dict[tuple[str, datetime], list[Landed]] = {}
        for item in landed:
            by_version.setdefault((item.delivery.endpoint_id, item.delivery.endpoint.updated_at), []).append(item)
        for items in by_version.values():
            _judge(items[0].delivery.endpoint, [item.outcome for item in items], lanes)

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
        return Ending(delivery, attempt, DeliveryStatus.PENDING, wait)


def _judge(sent: WebhookEndpoint, outcomes: Sequence[Outcome], lanes: Lanes) -> None:
    """Note how an endpoint does, and switch off one that is gone or given up; not if it was changed meanwhile."""
    known = lanes.health(sent.pk)
    is_working = any(outcome.is_success for outcome in outcomes)
    since = None if is_working else known.failing_since or min(outcome.sent_at for outcome in outcomes)
    health = Health(since, *_slowness(known, outcomes))
    if health != known and not claims.note_health(sent, health):
        health = known
    elif any(outcome.is_gone for outcome in outcomes):
        endpoints.note_gone(sent)
    elif since is not None and timezone.now() - since >= GIVEN_UP_AFTER:
        endpoints.give_up_failing(sent)
    lanes.note_health(sent.pk, health)


def _slowness(known: Health, outcomes: Sequence[Outcome]) -> tuple[bool, int]:
    """Return whether an endpoint is slow, and how many quick answers have followed the last slow one."""
    is_so, quick = known.is_slow, known.quick_answers
    for outcome in outcomes:
        if is_slow(outcome):
            is_so, quick = True, 0
        elif is_so:
            is_so, quick = (True, quick + 1) if quick + 1 < QUICK_ANSWERS else (False, 0)
    return is_so, quick


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
