"""``manage.py import_social_platforms`` on files of a test's own, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command

__all__ = ["FACEBOOK", "failed_rows", "run", "write"]

FACEBOOK = {"id": "p", "name": "Facebook"}


def run(*arguments: object) -> dict[str, Any]:
    """Run the command with ``--json``; rows may fail."""
    out = StringIO()
    try:
        call_command("import_social_platforms", *map(str, arguments), "--json", stdout=out, stderr=StringIO())
    except CommandError as error:
        if error.returncode != 1 or not out.getvalue():
            raise
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def write(folder: Path, *rows: dict[str, Any], platforms: Sequence[dict[str, Any]] = (FACEBOOK,)) -> tuple[object, ...]:
    """Files of these accounts, of the first platform unless they name another, as options."""
    of_platforms, of_accounts = folder / "p.json", folder / "a.json"
    of_platforms.write_text(json.dumps(platforms))
    of_accounts.write_text(json.dumps([{"platform_id": platforms[0]["id"], **row} for row in rows]))
    return ("--platforms", of_platforms, "--accounts", of_accounts, "--report", folder / "report.jsonl")


def failed_rows(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The report's rows, by their old ids."""
    lines = Path(answer["report"]).read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}
