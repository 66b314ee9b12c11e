"""Workflows of single tests, which are gone after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_definitions_of_another_test() -> Iterator[None]:
    from connections.workflows import definitions  # it needs the settings

    steps, workflows = dict(definitions._steps), dict(definitions._workflows)
    yield
    for table, before in ((definitions._steps, steps), (definitions._workflows, workflows)):
        table.clear()  # type: ignore[attr-defined]
        table.update(before)  # type: ignore[attr-defined]
