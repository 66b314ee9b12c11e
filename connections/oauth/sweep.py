"""What runs every minute: the spool is applied, then every due grant has its turn, a few at a time.

A claim is small, so that little is in doubt when the worker is killed: about as many as there are threads, and more
only while they are answered at once. A sweep that is to stop, or whose time is up, sends no more and ends with the
answers under way.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from connections import stopping
from connections.oauth.dispatch import THREADS, run_many
from connections.oauth.endpoints import Endpoints
from connections.oauth.leases import claim_due
from connections.oauth.recovery import recover
from connections.oauth.settlement import Settlement
from connections.oauth.turns import take
from external_apis.database_connections import give_back_database_connections

__all__ = ["Swept", "sweep"]

_SWEEP_SECONDS = 25.0
_BATCH, _QUICK_SECONDS = 200, 1.5
# Often enough that no claim meets a lease which ran out over an answer that lies in the spool (see `late`).
_RECOVERY_SECONDS = 10.0

_endpoints = Endpoints()


@dataclass(slots=True)
class Swept:
    """How many grants had their turn, and of them those that were renewed and those whose renewal failed."""

    turns: int = 0
    renewed: int = 0
    failed: int = 0


def sweep(*, cause: str = "schedule", seconds: float = _SWEEP_SECONDS, batch_size: int = _BATCH) -> Swept:
    """Give every due grant its turn, the longest overdue first; send nothing after ``seconds``.

    Several at the same time take different grants. What is left comes next time. Raises Django's database errors.
    """
    swept = Swept()
    until, recovered_at = time.monotonic() + seconds, 0.0
    executor = ThreadPoolExecutor(THREADS, thread_name_prefix="refresh")
    with stopping.watched() as is_told, executor:
        passed: list[str] = []
        size = smallest = min(THREADS, batch_size)

        def is_over() -> bool:
            return is_told() or time.monotonic() > until

        while not is_over():
            began = time.monotonic()
            if not recovered_at or began - recovered_at > _RECOVERY_SECONDS:
                recover()
                recovered_at = time.monotonic()
            leases = take(lambda: claim_due(size, passed), cause)  # noqa: B023 (called at once)
            if not leases:
                break
            # None is taken twice by one sweep, whatever its settlement says.
            passed += [lease.connection_id for lease in leases]
            _count(run_many(leases, cause, executor, _endpoints, is_over), swept)
            is_quick = time.monotonic() - began < _QUICK_SECONDS
            size = min(size * 2, batch_size) if is_quick else smallest
    give_back_database_connections()
    return swept


def _count(settlements: list[Settlement], swept: Swept) -> None:
    swept.turns += len(settlements)
    swept.renewed += sum(item.tokens is not None for item in settlements)
    swept.failed += sum(item.outcome == "failed" for item in settlements)
