"""What is counted of calls: bags of whole numbers by name, which add up over processes, minutes and connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import ceil, log2, sqrt

__all__ = [
    "BUCKET",
    "BYTES_IN",
    "BYTES_OUT",
    "CALLS",
    "ERROR",
    "ERRORS",
    "MICROSECONDS",
    "STATUS",
    "WAITS",
    "WAIT_MS",
    "Bag",
    "add",
    "bound_seconds",
    "bucket_name",
    "numbered",
    "percentile",
    "total",
]

Bag = dict[str, int]

CALLS, ERRORS, MICROSECONDS = "calls", "errors", "us"
"""Calls of which a request was sent, those among them that ended in an error, and how long all of them took."""
WAITS, WAIT_MS = "waits", "wait_ms"
"""Waits for a rate limit: for a slot of ours, or as long as the provider's 429 asked for."""
BYTES_OUT, BYTES_IN = "bytes_out", "bytes_in"
"""Of bodies: as sent, and as received; one that was read whole counts as unpacked."""
ERROR, STATUS, BUCKET = "error:", "status:", "le:"
"""Begin names: the code of an error, a class of statuses (``4xx``), the number of a bucket of durations."""

_SMALLEST_SECONDS = 0.0001
_BUCKETS_A_DOUBLING = 4
_LAST_BUCKET = 4 * 30  # about a day


def bound_seconds(bucket: int) -> float:
    """Return the longest duration that is counted in a bucket; four buckets double it, from 0.1 ms up to a day."""
    return float(_SMALLEST_SECONDS * 2 ** (bucket / _BUCKETS_A_DOUBLING))


@lru_cache(maxsize=_LAST_BUCKET + 1)
def _name(bucket: int) -> str:
    return f"{BUCKET}{bucket}"


def bucket_name(seconds: float) -> str:
    """Return the name under which a call of that duration is counted."""
    if seconds <= _SMALLEST_SECONDS:
        return _name(0)
    return _name(min(ceil(_BUCKETS_A_DOUBLING * log2(seconds / _SMALLEST_SECONDS)), _LAST_BUCKET))


def numbered(bag: Mapping[str, int], beginning: str) -> dict[str, int]:
    """Return the numbers whose names begin so, under the rest of their names."""
    return {name.removeprefix(beginning): number for name, number in bag.items() if name.startswith(beginning)}


def percentile(bag: Mapping[str, int], share: float) -> float | None:
    """Return the seconds within which that share (0.99) of the calls ended, at most 9 % off; None without a call."""
    buckets = sorted((int(bucket), count) for bucket, count in numbered(bag, BUCKET).items())
    left = share * sum(count for _, count in buckets)
    for bucket, count in buckets:
        left -= count
        if left <= 0:
            return sqrt(bound_seconds(bucket) * bound_seconds(bucket - 1))
    return None


def add(to: Bag, bag: Mapping[str, int]) -> None:
    """Add the numbers of a bag to another one's."""
    for name, number in bag.items():
        to[name] = to.get(name, 0) + number


def total(bags: Iterable[Mapping[str, int]]) -> Bag:
    """Return the sum of bags."""
    result: Bag = {}
    for bag in bags:
        add(result, bag)
    return result
