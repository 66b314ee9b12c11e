"""Sends the claimed deliveries of many endpoints in threads: each endpoint has its queue, and so many lanes at most.

An endpoint that fails or answers slowly has one lane, and all of those together half of the threads, so that they
leave room for the others. A lane gives its thread up after a while for whoever has waited longer. What is queued of an
endpoint goes back to the database once an answer is slow or says that it is gone, and when it was changed meanwhile.
The threads touch no database: what they need was read, and its secrets opened, before.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from connections.models import WebhookDelivery
from connections.webhooks.outbound import signing
from connections.webhooks.outbound.claims import LEASE, Health
from connections.webhooks.outbound.message import ANSWER_SECONDS, Outcome, send
from connections.webhooks.outbound.signing import Signer
from external_apis.errors import VaultError

__all__ = [
    "FIRST_LOT",
    "QUICK_ANSWERS",
    "SLOW_SECONDS",
    "THREADS",
    "TROUBLED_AT_MOST",
    "TURN_SECONDS",
    "Landed",
    "Lanes",
    "ends_turn",
    "is_slow",
]

THREADS = 32
TROUBLED_AT_MOST = THREADS // 2
"""How many of the threads endpoints that fail or are slow may have."""

SLOW_SECONDS = 2.0
"""An answer that takes longer is slow."""

QUICK_ANSWERS = 10
"""So many in a row, and an endpoint that was slow is not any more."""

TURN_SECONDS = 2.0
"""After so long a lane begins no other request while somebody else has no thread."""

FIRST_LOT = 8
"""How many of an endpoint's deliveries are claimed before it is known to answer quickly."""

_LANES_EACH = 4
# A lane that begins later might be answered when somebody else has the lease.
_SENDING_SECONDS = LEASE.total_seconds() - ANSWER_SECONDS - 5
_QUICK_SECONDS = 1.5
_LARGEST_LOT = 500
_TAKEN_AT_A_TIME = 100


@dataclass(slots=True)
class Landed:
    """A delivery and what came of it."""

    delivery: WebhookDelivery
    outcome: Outcome


@dataclass(slots=True)
class _Endpoint:
    """``queue`` holds deliveries, each with the moment until which it may be sent.

    ``is_judged`` is false from an answer that ended a turn until it has been noted what that says of the endpoint.
    """

    tenant_id: str | None
    signer: Signer | None = None
    health: Health = field(default_factory=Health)
    is_judged: bool = True
    changed_at: datetime | None = None
    queue: deque[tuple[WebhookDelivery, float]] = field(default_factory=deque)
    flying: int = 0
    claimed_at: float = 0.0
    began_at: float = 0.0
    lot: int = FIRST_LOT


class Lanes:
    """What one sweep has under way. Its lanes run in threads; all else is for the sweep's main thread."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._endpoints: dict[str, _Endpoint] = {}
        self._landed: list[Landed] = []
        self._unsent: list[WebhookDelivery] = []

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting, under way, or landed and not taken."""
        with self._lock:
            return not self._landed and not any(one.flying or one.queue for one in self._endpoints.values())

    def free(self) -> tuple[int, int]:
        """Return how many threads nobody uses, and how many of them endpoints that fail or are slow may have."""
        with self._lock:
            flying = sum(one.flying for one in self._endpoints.values())
            troubled = sum(one.flying for one in self._endpoints.values() if one.health.is_troubled)
        return THREADS - flying, max(0, min(THREADS - flying, TROUBLED_AT_MOST - troubled))

    def busy(self) -> dict[str | None, int]:
        """Return of how many endpoints of each tenant something is under way or waits."""
        with self._lock:
            return dict(Counter(one.tenant_id for one in self._endpoints.values() if one.flying or one.queue))

    def passed(self) -> list[str]:
        """Return the endpoints of which no more is to be claimed now: they have work or have to wait."""
        with self._lock:
            return [
                name
                for name, one in self._endpoints.items()
                if len(one.queue) > one.lot // 4
                or (one.health.is_troubled and (one.queue or one.flying))
                or not one.is_judged
            ]

    def lots(self) -> dict[str, int]:
        """Return how many of an endpoint's deliveries to claim at a time: more as long as it answers quickly."""
        with self._lock:
            return {name: one.lot for name, one in self._endpoints.items()}

    def queued(self) -> dict[str, datetime | None]:
        """Return the endpoints of which something waits here, each with when it was changed last as far as is known."""
        with self._lock:
            return {name: one.changed_at for name, one in self._endpoints.items() if one.queue}

    # --- sending ------------------------------------------------------------------------------------------------------

    def add(self, deliveries: Sequence[WebhookDelivery]) -> list[Landed]:
        """Queue what was claimed; returns those that cannot be sent, because their secrets do not open."""
        unsendable = []
        now, claimed_at = timezone.now(), time.monotonic()
        send_before = claimed_at + _SENDING_SECONDS
        fresh: dict[str, _Endpoint] = {}
        for delivery in deliveries:
            name = delivery.endpoint_id
            if name not in fresh:
                fresh[name] = self._learn(delivery, now, claimed_at)
            if fresh[name].signer is None:
                outcome = Outcome(now, error="The endpoint's secret cannot be opened.")
                unsendable.append(Landed(delivery, outcome))
            else:
                fresh[name].queue.append((delivery, send_before))
        return unsendable

    def start(self) -> None:
        """Put free threads to work: one for each endpoint, and while there are many more for those with more to do."""
        with self._lock:
            free = THREADS - sum(one.flying for one in self._endpoints.values())
            queued = sorted((one for one in self._endpoints.values() if one.queue), key=lambda one: one.began_at)
            for most in (1, _LANES_EACH):
                for one in queued:
                    allowed = 1 if one.health.is_troubled else most
                    while one.queue and one.flying < allowed and free > (THREADS // 2 if one.flying else 0):
                        one.flying += 1
                        one.began_at = time.monotonic()
                        free -= 1
                        self._executor.submit(self._run, one)

    def stranded(self) -> list[WebhookDelivery]:
        """Return what no thread is free for, and is not going to be sent: another sweep may have one."""
        with self._lock:
            if sum(one.flying for one in self._endpoints.values()) >= THREADS:
                for one in self._endpoints.values():
                    if not one.flying:
                        self._drop(one)
        return self.unsent()

    def stop(self) -> None:
        """Let nothing more begin."""
        with self._lock:
            for one in self._endpoints.values():
                self._drop(one)

    def drop(self, endpoint_id: str) -> None:
        """Let nothing more begin of what is queued for an endpoint."""
        with self._lock:
            self._drop(self._endpoints[endpoint_id])

    def unsent(self) -> list[WebhookDelivery]:
        """Return what is not going to be sent, such as what has waited for so long that its lease might end."""
        now = time.monotonic()
        with self._lock:
            for one in self._endpoints.values():
                while one.queue and one.queue[0][1] < now:
                    self._unsent.append(one.queue.popleft()[0])
            unsent, self._unsent = self._unsent, []
        return unsent

    def wait(self, seconds: float) -> bool:
        """Wait until something has landed; False when nothing did for so long."""
        self._news.wait(seconds)
        self._news.clear()
        with self._lock:
            return bool(self._landed)

    def take(self) -> list[Landed]:
        """Return what has landed since the last time."""
        with self._lock:
            landed, self._landed = self._landed, []
        return landed

    def health(self, endpoint_id: str) -> Health:
        """Return how an endpoint does, as far as this sweep knows."""
        return self._endpoints[endpoint_id].health

    def note_health(self, endpoint_id: str, health: Health) -> None:
        """Learn how an endpoint does, which has been noted for others."""
        with self._lock:
            one = self._endpoints[endpoint_id]
            one.health, one.is_judged = health, True

    # --- parts --------------------------------------------------------------------------------------------------------

    def _learn(self, delivery: WebhookDelivery, now: datetime, claimed_at: float) -> _Endpoint:
        """Bring what is known of an endpoint up to date; whether the last lot was quick tells how large the next is."""
        row = delivery.endpoint
        try:
            signer = Signer(signing.living(row.secrets, now))
        except (VaultError, ValueError):
            signer = None
        with self._lock:
            one = self._endpoints.setdefault(row.pk, _Endpoint(row.tenant_id, lot=FIRST_LOT))
            one.signer, one.changed_at = signer, row.updated_at
            one.health = Health(row.failing_since, row.is_slow, row.quick_answers)
            if one.claimed_at:
                is_quick = claimed_at - one.claimed_at < _QUICK_SECONDS and not one.health.is_troubled
                one.lot = min(one.lot * 2, _LARGEST_LOT) if is_quick else FIRST_LOT
            one.claimed_at = claimed_at
        return one

    def _run(self, one: _Endpoint) -> None:
        """One lane, in a thread of its own."""
        try:
            self._send(one)
        finally:
            with self._lock:
                one.flying -= 1
            self._news.set()

    def _send(self, one: _Endpoint) -> None:
        """Send what the endpoint's queue holds, until it is empty or the lane's turn is over."""
        until, is_over = time.monotonic() + TURN_SECONDS, False
        while not is_over:
            with self._lock:
                now = time.monotonic()
                if not one.queue or min(until, one.queue[0][1]) < now or (one.health.is_troubled and one.flying > 1):
                    break
                (delivery, _), signer = one.queue.popleft(), one.signer
            assert signer is not None  # noqa: S101 (only then is anything queued)
            outcome = send(delivery.endpoint.url, delivery.event, signer)
            with self._lock:
                self._landed.append(Landed(delivery, outcome))
                is_time = len(self._landed) == _TAKEN_AT_A_TIME
                is_over = ends_turn(outcome)
                if is_over:
                    one.is_judged = False
                    self._drop(one)
            if is_time:
                self._news.set()

    def _drop(self, one: _Endpoint) -> None:
        self._unsent += [delivery for delivery, _ in one.queue]
        one.queue.clear()


def is_slow(outcome: Outcome) -> bool:
    """Whether an answer took so long that its endpoint has one thread from now on, of half of them all."""
    return outcome.duration_ms > SLOW_SECONDS * 1000


def ends_turn(outcome: Outcome) -> bool:
    """Whether after such an answer nothing more is sent of what is queued."""
    return outcome.is_gone or is_slow(outcome)
