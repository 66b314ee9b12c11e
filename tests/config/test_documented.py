"""Every setting has its row in the README."""

from __future__ import annotations

import re

from config import runtime

TESTING = {"TESTING_FAULTS", "FAULT_FILE"}
"""What only tests set."""


def test_every_variable_that_is_read_has_a_row() -> None:
    source = "".join(path.read_text() for path in (runtime.CHECKOUT / "config").glob("*.py"))
    read = set(re.findall(r"\benv\.\w+\(\s*\"([A-Z][A-Z_]+)\"", source)) - TESTING
    assert len(read) > 50
    rows = [
        line.split("|")[1] for line in (runtime.CHECKOUT / "README.md").read_text().splitlines() if line[:3] == "| `"
    ]
    named = {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", row)}
    families = tuple(name for row in rows for name in re.findall(r"`([A-Z]+_)…`", row))
    assert not {name for name in read - named if not name.startswith(families)}
