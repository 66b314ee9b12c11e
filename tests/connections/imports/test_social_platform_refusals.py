"""An error that nobody has foreseen costs the row in which it is met, and no other."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django import db

from connections.imports.social_platforms import accounts, old_rows, platforms
from connections.imports.social_platforms.refusals import of_one_row
from external_apis.errors import NotFound
from tests.connections.imports.social_platform_files import FACEBOOK, failed_rows, run, write

TOKEN = "tok-which-nobody-may-see"


def _stumbling(real: Callable[..., Any]) -> Callable[..., Any]:
    """Fail as code does that has not thought of a value, with the value in its message."""

    def read(row: Any, *rest: Any) -> Any:
        plain = row if isinstance(row, dict) else row.plain
        if plain["id"].startswith("odd"):
            raise ZeroDivisionError(TOKEN)
        return real(row, *rest)

    return read


@pytest.mark.parametrize(
    ("read", "failed"),
    [
        ((old_rows, "part"), {"odd", "odd-platform"}),
        ((accounts, "_provider_data"), {"odd"}),
        ((platforms, "_preset"), {"odd-platform"}),
    ],
)
@pytest.mark.django_db
def test_what_nobody_has_foreseen_is_one_rows_problem(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    read: tuple[Any, str],
    failed: set[str],
) -> None:
    monkeypatch.setattr(*read, _stumbling(getattr(*read)))
    rows = [{"id": row_id, "access_token": f"{TOKEN}-{row_id}"} for row_id in ("a", "odd", "b")]
    with caplog.at_level(logging.ERROR):
        answer = run(*write(tmp_path, *rows, platforms=[FACEBOOK, {"id": "odd-platform", "name": "X"}]), "--apply")
    told = failed_rows(answer)
    assert told.keys() == failed
    assert {row["reason"] for row in told.values()} == {"that nobody has foreseen: see the log"}
    assert {row["message"] for row in told.values()} == {"reading it ended in a ZeroDivisionError"}
    assert (answer["accounts"]["migrated"], answer["platforms"]["migrated"]) == (
        3 - ("odd" in failed),
        2 - ("odd-platform" in failed),
    )
    assert "an old row ended in a ZeroDivisionError at test_social_platform_refusals.py" in caplog.text
    assert TOKEN not in caplog.text + json.dumps(answer) + Path(answer["report"]).read_text()


@pytest.mark.parametrize(
    "error", [db.OperationalError("away"), db.InterfaceError("closed"), NotFound("x"), MemoryError()]
)
def test_what_is_no_rows_problem_goes_on(error: Exception) -> None:
    def read() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        of_one_row(read)()
    assert raised.value is error
