"""Totals of lists stay in Valkey for some seconds: each test begins without those of the one before."""

from __future__ import annotations

import pytest

from external_apis import valkey
from external_apis.paging import TOTAL_KEYS


@pytest.fixture(autouse=True)
def _forget_totals() -> None:
    for key in valkey.client().scan_iter(f"{TOTAL_KEYS}*"):
        valkey.client().delete(key)
