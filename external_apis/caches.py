"""What is kept for quickness alone, and letting go of it."""

from __future__ import annotations

from django.core.cache import cache
from django.db import transaction

from external_apis import audit, changes, valkey
from external_apis.paging import TOTAL_KEYS

__all__ = ["clear"]

KINDS = ("totals", "opened_rows", "page_counts")
"""Totals of lists in Valkey; opened providers, credentials and clients in the memory of every process; counts of admin
pages in this process (others let go of theirs within 5 s)."""


def clear() -> tuple[str, ...]:
    """Empty all of `KINDS` and record it; nothing is emptied when that fails. Raises `ServiceUnavailable`."""
    with transaction.atomic():
        audit.record_about("cache.cleared", "cache", changes={"kinds": list(KINDS)})
        with valkey.translate_errors():
            client = valkey.client()
            for key in client.scan_iter(f"{TOTAL_KEYS}*", count=1_000):
                client.delete(key)
        cache.clear()
        changes.announce_everything()
    return KINDS
