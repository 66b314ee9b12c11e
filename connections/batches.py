"""Deletes what is too old a few thousand rows at a time, so that no statement takes long and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import connection as database

__all__ = ["AT_MOST", "SIZE", "delete_in_batches", "deletion"]

SIZE = 5_000

AT_MOST = 200
"""How many batches in one run: the rest is for the next."""


def delete_in_batches(delete: Callable[[int], int], *, size: int | None = None) -> int:
    """Call ``delete`` with the size of a batch until it has deleted fewer rows than that; returns how many in all."""
    size, total = size or SIZE, 0
    for _ in range(AT_MOST):
        count = delete(size)
        total += count
        if count < size:
            break
    return total


def deletion(statement: str, values: Mapping[str, Any]) -> Callable[[int], int]:
    """Return what runs a DELETE with these values, and with the size of a batch as ``limit``."""

    def delete(limit: int) -> int:
        with database.cursor() as cursor:
            cursor.execute(statement, {**values, "limit": limit})
            count: int = cursor.rowcount
        return count

    return delete
