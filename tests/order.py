"""The slow tests first: whoever has run out of tests takes some of another's last ones, which are then the quick ones.

Those that start, stop and starve the product take tens of seconds each. At the end of the list they would be done one
after the other by one process, while the others have nothing left.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_SLOW = ("config", "hostile")
_FOLDER = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    """Return 0 for a test of a slow folder; tests keep their order otherwise."""
    path = item.path
    return int(not (path.is_relative_to(_FOLDER) and path.relative_to(_FOLDER).parts[0] in _SLOW))
