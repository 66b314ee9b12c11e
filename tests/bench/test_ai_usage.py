"""The usage of AI models over a year of sums of 1,000 models and 1,000 users, beside that of one day."""

from __future__ import annotations

import time
from typing import Any

import pytest
import time_machine
from django.db import connection

from external_apis.backoffice.models import AiUsageSum
from tests.envelope import EXTERNAL, data_of
from tests.factories import make_tenant
from tests.rest import RestClient, with_key

pytestmark = pytest.mark.django_db(transaction=True)

_RUNS, _SUBJECTS, _AT_MOST = 7, 1_000, 5
_NOW = "2026-01-01T00:00:00Z"
_YEAR = {"from": "2025-01-01", "to": "2025-12-31"}
_ODD_YEAR = {"from": "2025-01-10", "to": "2026-01-09"}
_DAY = {"from": "2025-12-31", "to": "2025-12-31"}
_EDGES = ("2024-12-31", "2025-01-09", "2025-12-30", "2025-12-31", "2026-01-09")
"""Where the days asked for begin and end in Kathmandu, at 18:15 UTC."""
_TABLE = AiUsageSum._meta.db_table
_FILL = f"""
INSERT INTO {_TABLE}
    (tenant_id, dimension, subject, grain, starts_at, calls, prompt_tokens, completion_tokens, total_tokens)
SELECT %(tenant)s, %(dimension)s, %(begin)s || n, %(grain)s, starts_at, n, 10 * n, n, 11 * n
FROM generate_series(timestamptz '2024-12-01 00:00+00', timestamptz '2026-02-01 00:00+00', %(every)s::interval)
    AS starts_at, generate_series(1, %(subjects)s) AS n
"""


def _fill(tenant: str) -> None:
    """Sums as the roll-up leaves them; those of quarters and hours only where the asked for days begin and end."""
    with connection.cursor() as cursor:
        for dimension, begin, subjects in (
            ("installation", "", 1), ("total", "", 1), ("model", "aim_", _SUBJECTS), ("user", "user_", _SUBJECTS)
        ):  # fmt: skip
            for grain, every in (
                ("quarter", "15 min"),
                ("hour", "1 hour"),
                ("day", "1 day"),
                ("pentad", "1 day"),
                ("month", "1 month"),
            ):
                owner = None if dimension == "installation" else tenant
                given = {"tenant": owner, "dimension": dimension, "begin": begin, "grain": grain, "every": every}
                where = ""
                if grain == "pentad":
                    where = " WHERE extract(day FROM starts_at) IN (1, 6, 11, 16, 21, 26)"
                if subjects > 1 and grain in ("quarter", "hour"):
                    days = ", ".join(f"'{day}'" for day in _EDGES)
                    where = f" WHERE starts_at::date IN ({days})"
                if subjects > 1 and grain == "quarter":
                    where += " AND extract(hour FROM starts_at) = 18"
                cursor.execute(_FILL + where, given | {"subjects": subjects})
        cursor.execute(f"UPDATE {_TABLE} SET subject = '' WHERE dimension IN ('installation', 'total')")
        cursor.execute(f"VACUUM ANALYZE {_TABLE}")


def _measure(client: RestClient, **query: str) -> float:
    """Return the milliseconds of the quickest request: the machine is shared."""
    timings = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        answer = client.get(f"{EXTERNAL}/analytics/usage", query)
        timings.append((time.perf_counter() - began) * 1000)
        assert len(data_of(answer)["breakdown"]) == 20
    return min(timings)


def test_a_year_takes_about_as_long_as_a_day(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 1_000_000
    _fill(make_tenant().pk)
    client, ratios = with_key(), {}
    with time_machine.travel(_NOW, tick=True):
        for zone in ("UTC", "Asia/Kathmandu"):
            for by in ("model", "user"):
                day = _measure(client, **_DAY, by=by, timeZone=zone)
                for name, span in (("a year", _YEAR), ("a year from the 10th", _ODD_YEAR)):
                    for step in ("day", "month"):
                        year = _measure(client, **span, by=by, timeZone=zone, step=step)
                        ratios[zone, by, name, step] = year / day
                        print(
                            f"\nusage by {by} in {zone}: {day:.1f} ms of one day, {year:.1f} ms of {name} by {step}, "
                            f"ratio {year / day:.2f}"
                        )
    assert max(ratios.values()) <= _AT_MOST, ratios
