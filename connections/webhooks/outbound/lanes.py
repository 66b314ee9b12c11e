"""Sends the claimed deliveries of many endpoints in threads: each endpoint has its queue, and so many lanes at most.

An endpoint that fails has one lane, and all of those together half of the threads, so that receivers that hang leave
room for the others. The threads touch no database: what they need was read, and its secrets opened, before.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from connections.models import WebhookDelivery
from connections.webhooks.outbound import signing
from connections.webhooks.outbound.claims import LEASE
from connections.webhooks.outbound.message import ANSWER_SECONDS, Outcome, body_of, send
from connections.webhooks.outbound.signing import Signer
from external_apis.errors import VaultError

__all__ = ["FAILING_AT_MOST", "FIRST_LOT", "THREADS", "Landed", "Lanes"]

THREADS = 32
FAILING_AT_MOST = THREADS // 2

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
    """``queue`` holds deliveries, each with the moment until which it may be sent."""

    signer: Signer | None
    failing_since: datetime | None
    queue: deque[tuple[WebhookDelivery, float]] = field(default_factory=deque)
    flying: int = 0
    claimed_at: float = 0.0
    lot: int = FIRST_LOT


class Lanes:
    """What one sweep has under way. All methods are for its main thread."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._endpoints: dict[str, _Endpoint] = {}
        self._landed: list[Landed] = []

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting, under way, or landed and not taken."""
        with self._lock:
            return not self._landed and not any(one.flying or one.queue for one in self._endpoints.values())

    def free(self) -> tuple[int, int]:
        """Return how many threads nobody uses, and how many of them endpoints that fail may have."""
        with self._lock:
            flying = sum(one.flying for one in self._endpoints.values())
            failing = sum(one.flying for one in self._endpoints.values() if one.failing_since)
        return THREADS - flying, max(0, min(THREADS - flying, FAILING_AT_MOST - failing))

    def passed(self) -> list[str]:
        """Return the endpoints of which no more is to be claimed now: they have work, or fail and are asked now."""
        with self._lock:
            return [
                name
                for name, one in self._endpoints.items()
                if len(one.queue) > one.lot // 4 or (one.failing_since and (one.queue or one.flying))
            ]

    def lots(self) -> dict[str, int]:
        """Return how many of an endpoint's deliveries to claim at a time: more as long as it answers quickly."""
        with self._lock:
            return {name: one.lot for name, one in self._endpoints.items()}

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
            for most in (1, _LANES_EACH):
                for one in self._endpoints.values():
                    allowed = 1 if one.failing_since else most
                    while one.queue and one.flying < allowed and free > (THREADS // 2 if one.flying else 0):
                        one.flying += 1
                        free -= 1
                        self._executor.submit(self._run, one)

    def stranded(self) -> list[WebhookDelivery]:
        """Return what no thread is free for, and is not going to be sent: another sweep may have one."""
        unsent: list[WebhookDelivery] = []
        with self._lock:
            if sum(one.flying for one in self._endpoints.values()) >= THREADS:
                for one in self._endpoints.values():
                    if not one.flying:
                        unsent += [delivery for delivery, _ in one.queue]
                        one.queue.clear()
        return unsent

    def stop(self) -> list[WebhookDelivery]:
        """Empty the queues; returns what is not going to be sent."""
        with self._lock:
            unsent = [delivery for one in self._endpoints.values() for delivery, _ in one.queue]
            for one in self._endpoints.values():
                one.queue.clear()
        return unsent

    def overdue(self) -> list[WebhookDelivery]:
        """Return what has waited for a thread for so long that its lease might end, and is not going to be sent."""
        now, unsent = time.monotonic(), []
        with self._lock:
            for one in self._endpoints.values():
                while one.queue and one.queue[0][1] < now:
                    unsent.append(one.queue.popleft()[0])
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

    def failing_since(self, endpoint_id: str) -> datetime | None:
        """Return since when an endpoint fails, as far as this sweep knows."""
        return self._endpoints[endpoint_id].failing_since

    def note_health(self, endpoint_id: str, failing_since: datetime | None) -> None:
        """Learn that an endpoint fails from now on, or does not any more."""
        with self._lock:
            self._endpoints[endpoint_id].failing_since = failing_since

    # --- parts --------------------------------------------------------------------------------------------------------

    def _learn(self, delivery: WebhookDelivery, now: datetime, claimed_at: float) -> _Endpoint:
        """Bring what is known of an endpoint up to date; whether the last lot was quick tells how large the next is."""
        row = delivery.endpoint
        try:
            signer = Signer(signing.living(row.secrets, now))
        except (VaultError, ValueError):
            signer = None
        with self._lock:
            one = self._endpoints.setdefault(row.pk, _Endpoint(signer, row.failing_since))
            if one.claimed_at:
                is_quick = claimed_at - one.claimed_at < _QUICK_SECONDS and row.failing_since is None
                one.lot = min(one.lot * 2, _LARGEST_LOT) if is_quick else FIRST_LOT
            one.signer, one.failing_since, one.claimed_at = signer, row.failing_since, claimed_at
        return one

    def _run(self, one: _Endpoint) -> None:
        """One lane: send what the endpoint's queue holds, until it is empty."""
        while True:
            with self._lock:
                if not one.queue or one.queue[0][1] < time.monotonic() or (one.failing_since and one.flying > 1):
                    one.flying -= 1
                    break
                (delivery, _), signer = one.queue.popleft(), one.signer
            assert signer is not None  # noqa: S101 (only then is anything queued)
            outcome = send(delivery.endpoint.url, delivery.event_id, body_of(delivery.event), signer)
            with self._lock:
                self._landed.append(Landed(delivery, outcome))
                is_time = len(self._landed) == _TAKEN_AT_A_TIME
            if is_time:
                self._news.set()
        self._news.set()
