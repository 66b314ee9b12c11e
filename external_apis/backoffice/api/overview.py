"""``/api/external/analytics/overview``: the figures of a dashboard, with their change, step by step."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.urls import path
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, reads
from external_apis.backoffice.overview import Change, Figures, Overview, read_overview
from external_apis.backoffice.periods import Period, SeriesQuery, SeriesStep
from external_apis.json_output import Timestamp


class OverviewChange(CamelAnswer):
    value: int
    previous: int
    """In as many days right before."""
    change: int
    change_percent: float | None
    """Null where there was nothing before."""


class RevenueChange(OverviewChange):
    """In the currency's minor unit (cents)."""

    currency: str


class RevenueAmount(CamelAnswer):
    currency: str
    amount_minor: int


class OverviewStep(CamelAnswer):
    day: date
    """The first one of the step, in the time zone asked for."""
    starts_at: Timestamp
    ends_at: Timestamp
    users: int
    """At the end of the step."""
    connections: int
    calls: int
    errors: int
    revenue: list[RevenueAmount]


class OverviewReport(CamelAnswer):
    """Calls come in some seconds after they were made, users and connections within a minute, revenue within 15."""

    step: SeriesStep
    time_zone: str
    users: OverviewChange
    """How many there are at the end."""
    connections: OverviewChange
    calls: OverviewChange
    """That connections made; those of the sandbox are not counted."""
    errors: OverviewChange
    """Calls among them that failed."""
    revenue: list[RevenueChange]
    """Of paid plans: a month's price accrues evenly over 30 days. One for each currency."""
    series: list[OverviewStep]


class OverviewPage(ResourceView):
    @reads("get_overview_analytics", "analytics:read", OverviewReport, "Show the figures of a dashboard", SeriesQuery)
    def get(self, request: Request) -> Response:
        assert isinstance(self.query, SeriesQuery)  # noqa: S101 (tells the type checker)
        overview = read_overview(self.query, self.scope, timezone.now())
        return self.answer({"step": self.query.step, "timeZone": self.query.time_zone, **_shown(overview)})


def _shown(overview: Overview) -> dict[str, Any]:
    compared = {name: _change(overview.change_of(name)) for name in ("users", "connections", "calls", "errors")}
    revenue = [{"currency": name, **_change(change)} for name, change in overview.revenue_changes().items()]
    return {**compared, "revenue": revenue, "series": [_step(period, figures) for period, figures in overview.steps]}


def _change(change: Change) -> dict[str, Any]:
    names = ("value", "previous", "change", "change_percent")
    return OverviewChange(**{name: getattr(change, name) for name in names}).model_dump(by_alias=True)


def _step(period: Period, figures: Figures) -> dict[str, Any]:
    revenue = [RevenueAmount(currency=name, amount_minor=amount) for name, amount in figures.revenue.items()]
    item = OverviewStep(
        day=period.day,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        users=figures.users,
        connections=figures.connections,
        calls=figures.calls,
        errors=figures.errors,
        revenue=revenue,
    )
    return item.model_dump(mode="json", by_alias=True)


routes = [path("analytics/overview", OverviewPage.as_view())]
