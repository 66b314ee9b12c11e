"""What runs every minute: the spool is applied, then every due grant has its turn, batch by batch."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from connections.client import give_back_database_connections
from connections.oauth.leases import claim_due
from connections.oauth.recovery import recover
from connections.oauth.settlement import Settlement
from connections.oauth.turns import run, take

__all__ = ["Swept", "sweep"]

_SWEEP_SECONDS = 50.0
_BATCH, _THREADS = 200, 8
# Often enough that no claim meets a lease which ran out over an answer that lies in the spool (see `recovery`).
_RECOVERY_SECONDS = 10.0


@dataclass(slots=True)
class Swept:
    """How many grants had their turn, and of them those that were renewed and those whose renewal failed."""

    turns: int = 0
    renewed: int = 0
    failed: int = 0


def sweep(*, cause: str = "schedule", seconds: float = _SWEEP_SECONDS, batch_size: int = _BATCH) -> Swept:
    """Give every due grant its turn, the longest overdue first; begin no batch after ``seconds``.

    Several at the same time take different grants. What is left comes next time. Raises Django's database errors.
    """
    swept = Swept()
    until, recovered_at = time.monotonic() + seconds, 0.0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="refresh") as executor:
        passed: list[str] = []
        while not swept.turns or time.monotonic() < until:
            if not recovered_at or time.monotonic() - recovered_at > _RECOVERY_SECONDS:
                recover()
                recovered_at = time.monotonic()
            leases = take(lambda: claim_due(batch_size, passed), cause)  # noqa: B023 (called at once)
            if not leases:
                break
            # None is taken twice by one sweep, whatever its settlement says.
            passed += [lease.connection_id for lease in leases]
            _count(run(leases, cause, executor), swept)
    give_back_database_connections()
    return swept


def _count(settlements: list[Settlement], swept: Swept) -> None:
    swept.turns += len(settlements)
    swept.renewed += sum(item.tokens is not None for item in settlements)
    swept.failed += sum(item.outcome == "failed" for item in settlements)
