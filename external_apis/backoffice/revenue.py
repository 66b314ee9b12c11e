"""What paid plans earn: it accrues evenly, second by second, a month's price in 30 days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from django.db import connection, transaction
from django.db.models import Min

from external_apis.backoffice.models import OverviewMark, PlanPeriod
from external_apis.backoffice.overview_sums import Key, add_numbers
from external_apis.backoffice.periods import Grain, floor

__all__ = ["accrue_revenue", "revenue_of"]

_FIGURE = "revenue"
_PREFIX = f"{_FIGURE}:"
_MONTH_SECONDS = 30 * 86_400
_AT_ONCE = timedelta(days=1)
_MOST_TRANSACTIONS = 400  # in one run: the rest is for the next
_QUARTER = timedelta(minutes=15)

# Of every quarter of an hour: the seconds that each plan was on in it, times its price. Numeric: large prices together
# are beyond a bigint.
_EARNED = f"""
SELECT plan.tenant_id, quarter.starts_at, plan.currency, round(sum(plan.price_minor * greatest(0, extract(epoch FROM
    least(plan.ended_at, quarter.starts_at + interval '15 minutes') - greatest(plan.started_at, quarter.starts_at)
))))
FROM generate_series(%(since)s, %(until)s - interval '15 minutes', interval '15 minutes') AS quarter (starts_at)
JOIN {PlanPeriod._meta.db_table} AS plan
    ON plan.started_at < quarter.starts_at + interval '15 minutes'
    AND (plan.ended_at IS NULL OR plan.ended_at > quarter.starts_at)
WHERE plan.price_minor > 0 AND plan.started_at < %(until)s AND (plan.ended_at IS NULL OR plan.ended_at > %(since)s)
GROUP BY plan.tenant_id, quarter.starts_at, plan.currency
"""  # noqa: S608 (our own table's name)


def accrue_revenue(now: datetime) -> None:
    """Add what was earned in the quarters of an hour that have ended since the last time, each exactly once."""
    until = floor(now, Grain.QUARTER)
    for _ in range(_MOST_TRANSACTIONS):
        if not _accrue_some(until):
            return


def revenue_of(sums: Mapping[str, Decimal]) -> dict[str, int]:
    """Return the earned minor units by currency, of sums as `overview_sums.read_sums` tells them; half to even."""
    return {
        figure.removeprefix(_PREFIX): int((number / _MONTH_SECONDS).quantize(Decimal(1), ROUND_HALF_EVEN))
        for figure, number in sorted(sums.items())
        if figure.startswith(_PREFIX)
    }


@transaction.atomic
def _accrue_some(until: datetime) -> bool:
    """Add a day at most; returns whether there may be more."""
    mark = OverviewMark.objects.select_for_update().filter(figure=_FIGURE).first()
    if mark is None:
        first = PlanPeriod.objects.filter(price_minor__gt=0).aggregate(first=Min("started_at"))["first"]
        if first is None:
            return False
        # Another one that begins at the same time waits for this one's row, and has then nothing to make.
        start = {"reached_at": floor(first, Grain.QUARTER)}
        _, is_new = OverviewMark.objects.get_or_create(figure=_FIGURE, defaults=start)
        return is_new
    reached = min(until, mark.reached_at + _AT_ONCE)
    if reached <= mark.reached_at:
        return False
    add_numbers(_earned(mark.reached_at, reached))
    mark.reached_at = reached
    mark.save(update_fields=["reached_at"])
    return reached < until


def _earned(since: datetime, until: datetime) -> dict[Key, int]:
    with connection.cursor() as cursor:
        cursor.execute(_EARNED, {"since": since, "until": until})
        return {
            (tenant_id, starts_at, f"{_PREFIX}{currency}"): int(number)
            for tenant_id, starts_at, currency, number in cursor.fetchall()
        }
