"""What accepting and storing a webhook costs, in units of a bare Django view that inserts one row."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from connections.models import WebhookEvent
from tests.inbound import SECRET, webhook_provider
from tests.web import Web, serve

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS, SECONDS, ROUNDS = 8, 1.0, 9
LEAST = 0.8


def accepted_a_second(web: Web, path: str) -> float:
    command = [sys.executable, str(Path(__file__).with_name("webhook_load.py"))]
    command += [str(web.port), path, SECRET, str(CLIENTS), str(SECONDS)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout)


def test_webhooks_are_accepted_nearly_as_quickly_as_rows_are_inserted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook_provider()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_row (id bigserial PRIMARY KEY, body text, created_at timestamptz)")
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    try:
        with (
            serve(tmp_path, threads=16) as mine,
            serve(tmp_path, threads=16, application="tests.bench.bare_insert:application") as plain,
        ):
            for _ in range(ROUNDS):
                rates["bare"].append(accepted_a_second(plain, "/insert"))
                rates["ours"].append(accepted_a_second(mine, "/api/webhooks/stripe"))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE bench_row")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    # Neighbours in time have the same machine, whatever else that is doing.
    ratio = statistics.median(ours / bare for ours, bare in zip(rates["ours"], rates["bare"], strict=True))
    with capsys.disabled():
        print(
            f"\nWebhooks accepted / rows inserted by a bare view, {CLIENTS} clients: {ratio:.2f} "
            f"({medians['ours']:.0f} and {medians['bare']:.0f} a second)"
        )
    assert WebhookEvent.objects.count() > 0
    assert ratio >= LEAST
