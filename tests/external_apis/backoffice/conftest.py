"""Totals and rate limits stay in Valkey: each test begins without those of the one before."""

from __future__ import annotations

import pytest

from external_apis import valkey
from external_apis.paging import TOTAL_KEYS


@pytest.fixture(autouse=True)
def _forget_totals_and_limits() -> None:
    client = valkey.client()
    for pattern in (f"{TOTAL_KEYS}*", f"{valkey.PREFIX}limit:*"):
        for key in client.scan_iter(pattern, count=1_000):
            client.delete(key)
