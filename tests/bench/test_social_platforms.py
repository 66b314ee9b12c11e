"""100,000 accounts of the old social-platforms tables imported: how many a second, and in how much memory."""

from __future__ import annotations

import json
import os
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from connections.imports import storing
from connections.models import ExternalApiConnection
from tests.connections.imports.old_tables import PLATFORMS, key_file_text, old_shop, platforms
from tests.processes import resident_bytes

pytestmark = pytest.mark.django_db(transaction=True)

_COUNT = 100_000
_LEAST_RATE = 1_000
_MOST_GROWTH = 64 * 1024 * 1024


def test_accounts_move_in(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text(key_file_text())
    memory: list[int] = []
    store = storing.store

    def store_and_weigh(rows: Any) -> None:
        store(rows)
        memory.append(resident_bytes())

    monkeypatch.setattr(storing, "store", store_and_weigh)
    with old_shop("bench_shop", is_filled=False) as shop:
        shop.insert(PLATFORMS, platforms()[:1])
        shop.fill(_COUNT)
        connection.ensure_connection()
        backend = connection.connection.info.backend_pid
        out, began, used = StringIO(), time.perf_counter(), time.process_time() + _cpu_seconds(backend)
        options = ("--database-url", shop.url, "--encryption-key-file", str(keys), "--apply", "--json")
        call_command("import_social_platforms", *options, stdout=out)
        seconds = time.perf_counter() - began
        busy = time.process_time() + _cpu_seconds(backend) - used
    growth = memory[-1] - memory[len(memory) // 5]
    with capsys.disabled():
        print(
            f"\n{_COUNT} accounts in {seconds:.0f} s: {_COUNT / seconds:.0f} a second, and {_COUNT / busy:.0f} in each "
            f"second of processor time, PostgreSQL's included (at least {_LEAST_RATE}); after the first fifth the "
            f"process grew by {growth / 2**20:.0f} MB to {memory[-1] / 2**20:.0f} MB"
        )
    assert json.loads(out.getvalue())["accounts"]["migrated"] == _COUNT == ExternalApiConnection.objects.count()
    assert _COUNT / seconds > _LEAST_RATE
    assert _COUNT / busy > _LEAST_RATE
    assert growth < _MOST_GROWTH


def _cpu_seconds(process: int) -> float:
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
