"""The overview: users, connections, calls, errors and revenue, each with its change and step by step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from external_apis.backoffice.models import OverviewSum
from external_apis.backoffice.overview_counts import CONNECTIONS, USERS, note_counts, read_counts
from external_apis.backoffice.overview_sums import CALLS, ERRORS, read_sums
from external_apis.backoffice.periods import Grain, Period, SeriesQuery, whole
from external_apis.backoffice.revenue import accrue_revenue, revenue_of
from external_apis.tenancy import Scope

__all__ = ["Change", "Figures", "Overview", "prune_overview", "read_overview", "roll_up_overview"]

_KEPT = timedelta(days=800)
"""Of all but months: a year, and the one before to compare it with."""


@dataclass(frozen=True, slots=True)
class Figures:
    """``users`` and ``connections`` are there at the end of the time, the others came together in it.

    ``revenue`` is in minor units by currency.
    """

    users: int
    connections: int
    calls: int
    errors: int
    revenue: dict[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    value: int
    previous: int

    @property
    def change(self) -> int:
        return self.value - self.previous

    @property
    def change_percent(self) -> float | None:
        """To a tenth; None where there was nothing before."""
        return round(100 * self.change / self.previous, 1) if self.previous else None


@dataclass(frozen=True, slots=True)
class Overview:
    """``whole`` is the time asked for, ``before`` as many days right before it."""

    whole: Figures
    before: Figures
    steps: list[tuple[Period, Figures]]

    def change_of(self, name: str) -> Change:
        """Return users, connections, calls or errors, compared."""
        return Change(getattr(self.whole, name), getattr(self.before, name))

    def revenue_changes(self) -> dict[str, Change]:
        """Return the revenue in each currency, compared."""
        currencies = sorted({*self.whole.revenue, *self.before.revenue})
        return {name: Change(self.whole.revenue.get(name, 0), self.before.revenue.get(name, 0)) for name in currencies}


def read_overview(query: SeriesQuery, scope: Scope, now: datetime) -> Overview:
    """Return what a scope sees: the whole installation, or a tenant's own. Two queries, however long the time.

    Raises `InvalidInput` as `SeriesQuery.periods` does.
    """
    steps = query.periods(now)
    periods = [whole(steps), query.period_before(steps), *steps]
    counts = read_counts(scope, [period.ends_at for period in periods])
    found = [
        Figures(
            users=count.get(USERS, 0),
            connections=count.get(CONNECTIONS, 0),
            calls=int(sums.get(CALLS, 0)),
            errors=int(sums.get(ERRORS, 0)),
            revenue=revenue_of(sums),
        )
        for count, sums in zip(counts, read_sums(scope, periods), strict=True)
    ]
    return Overview(found[0], found[1], list(zip(steps, found[2:], strict=True)))


def roll_up_overview(now: datetime) -> None:
    """Bring it up to date: what is counted by looking, and what was earned. Calls add themselves."""
    note_counts(now)
    accrue_revenue(now)


def prune_overview(now: datetime) -> int:
    """Delete what is older than 800 days, but months; returns the number of rows."""
    grains = [grain.value for grain in Grain if grain is not Grain.MONTH]
    return OverviewSum.objects.filter(grain__in=grains, starts_at__lt=now - _KEPT).delete()[0]
