"""What it costs to read a fresh token, its event committed, in units of a bare DRF view that reads one row."""

from __future__ import annotations

import statistics
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from external_apis.models import AuditEvent
from tests.bench import load
from tests.factories import make_connection, make_key, make_provider
from tests.grants import oauth2_config
from tests.web import environment

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS, SECONDS = 5, 1.0


def test_reading_a_fresh_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api = make_provider(api_config=oauth2_config("https://api.example.com"))
    ends_at = timezone.now() + timedelta(days=30)
    tokens = {"access_token": "at-of-the-bench", "refresh_token": "rt-of-the-bench", "expires_at": ends_at}
    row = make_connection(api, credentials=tokens)
    keys = [f"Bearer {make_key(scopes=['credentials:read'], rate_limit=10_000_000).token}"]
    environ = {**environment(), "LOG_LEVEL": "INFO"}
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    with (
        load.granian("config.wsgi:application", environ, tmp_path) as ours,
        load.granian("tests.bench.bare_row:application", environ, tmp_path) as bare,
    ):
        for name, port, path in (
            ("bare", bare, f"/connections/{row.pk}"),
            ("ours", ours, f"/api/external/connections/{row.pk}/credentials"),
        ) * (ROUNDS + 1):
            rates[name].append(load.run(port, path, keys, SECONDS).per_second)
    # The first round warms up; neighbours in time have the same machine, whatever else that is doing.
    pairs = list(zip(rates["ours"], rates["bare"], strict=True))[1:]
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    medians = {name: f"{statistics.median(values):.0f}" for name, values in rates.items()}
    with capsys.disabled():
        print(
            f"\nReading a fresh token / a bare DRF view of one row: {ratio:.2f} times the requests ({medians} a second)"
        )
    answered = sum(rate * SECONDS for rate in rates["ours"])
    assert AuditEvent.objects.filter(action="credentials.read").count() >= answered * 0.95
    assert ratio >= 0.5
