"""``/api/external/analytics/tracking``: visits step by step, and where they went and came from."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from django.urls import path
from django.utils import timezone
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, reads
from external_apis.backoffice import visit_figures
from external_apis.backoffice.models import VisitKind
from external_apis.backoffice.periods import SeriesQuery, SeriesStep, whole
from external_apis.json_output import Timestamp
from external_apis.query_input import DIGITS_ALONE
from external_apis.tenancy import Scope


class VisitStep(CamelAnswer):
    day: date
    """The first one of the step, in the time zone asked for."""
    starts_at: Timestamp
    ends_at: Timestamp
    visits: int


class PathVisits(CamelAnswer):
    path: str
    """Of the page; `(other)` for all beyond 200 of a day."""
    visits: int


class ReferrerVisits(CamelAnswer):
    host: str
    """Whose page led here; `(direct)` for none, `(other)` for what names no host, and beyond 200 of a day."""
    visits: int


class TrackingReport(CamelAnswer):
    step: SeriesStep
    time_zone: str
    total: int
    previous: int
    """In as many days right before."""
    series: list[VisitStep]
    paths: list[PathVisits]
    """Most visits first."""
    referrers: list[ReferrerVisits]
    """Most visits first; who came from a page of ours is in none."""


class TrackingQuery(SeriesQuery):
    limit: Annotated[int, Field(ge=1, le=100), DIGITS_ALONE] = 10
    """How many paths and referrers are told."""


class TrackingPage(ResourceView):
    @reads("get_tracking_analytics", "analytics:read", TrackingReport, "Show visits to public pages", TrackingQuery)
    def get(self, request: Request) -> Response:
        assert isinstance(self.query, TrackingQuery)  # noqa: S101 (tells the type checker)
        return self.answer(_report(self.query, self.scope))


def _report(query: TrackingQuery, scope: Scope) -> dict[str, Any]:
    periods = query.periods(timezone.now())
    before, *steps = visit_figures.read_steps([query.period_before(periods), *periods], scope)
    top = visit_figures.read_top(whole(periods), scope, query.limit)
    report = TrackingReport.model_construct(
        step=query.step,
        time_zone=query.time_zone,
        total=sum(steps),
        previous=before,
        series=[
            # Field by field: `asdict` would copy each time, which takes longer than all the rest.
            VisitStep.model_construct(day=period.day, starts_at=period.starts_at, ends_at=period.ends_at, visits=visits)
            for period, visits in zip(periods, steps, strict=True)
        ],
        paths=[PathVisits.model_construct(path=share.name, visits=share.visits) for share in top[VisitKind.PATH]],
        referrers=[
            ReferrerVisits.model_construct(host=share.name, visits=share.visits) for share in top[VisitKind.REFERRER]
        ],
    )
    return report.model_dump(mode="json", by_alias=True)


routes = [path("analytics/tracking", TrackingPage.as_view())]
