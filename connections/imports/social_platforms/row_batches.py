"""Puts rows together to batches, bounded in rows and in size: a row may hold megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from connections.imports.social_platforms.sources import Read

__all__ = ["batches"]

_ROWS_IN_BATCH, _CHARACTERS_IN_BATCH = 500, 8_000_000


def batches(reads: Iterable[Read]) -> Iterator[list[Read]]:
    """Read on batch by batch; no batch is empty."""
    batch: list[Read] = []
    size = 0
    for read in reads:
        batch.append(read)
        size += _size(dict(read.row))
        if len(batch) >= _ROWS_IN_BATCH or size >= _CHARACTERS_IN_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _size(value: Any) -> int:
    """About how many characters a value holds, however deep (nobody has looked at it yet)."""
    size, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, dict):
            waiting += (*one, *one.values())
        elif isinstance(one, list):
            waiting += one
        else:
            size += 8
    return size
