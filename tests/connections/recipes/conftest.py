"""Steps and workflows of single tests, which are gone after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_definitions_of_another_test() -> Iterator[None]:
    from connections.workflows import definitions  # it needs the settings

    tables: list[Any] = [definitions._steps, definitions._workflows]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
