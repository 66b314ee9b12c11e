"""``/api/external/analytics/resources``: what the installation uses now, and what it used."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.urls import path
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, reads
from external_apis.backoffice.periods import Period, SeriesQuery, SeriesStep
from external_apis.backoffice.resource_samples import Spread, read_samples
from external_apis.backoffice.resources import Part, measure
from external_apis.envelope import camel_name
from external_apis.json_output import Timestamp


class ResourcePart(CamelAnswer):
    status: str
    """`ok`, or `unavailable` where it could not be measured."""
    figures: dict[str, float]


class ResourceSpread(CamelAnswer):
    min: float
    avg: float
    max: float


class ResourceStep(CamelAnswer):
    day: date
    """The first one of the step, in the time zone asked for."""
    starts_at: Timestamp
    ends_at: Timestamp
    figures: dict[str, dict[str, ResourceSpread]]
    """By part and name, of samples taken once a minute; where there were none, nothing."""


class ResourceReport(CamelAnswer):
    step: SeriesStep
    time_zone: str
    now: dict[str, ResourcePart]
    """`process` (the one that answers; in the series it is the worker's), `database`, `valkey`, `queues`, `due`,
    `disk`."""
    series: list[ResourceStep]


class ResourcesPage(ResourceView):
    @reads("get_resource_analytics", "analytics:read", ResourceReport, "Show what the installation uses", SeriesQuery)
    def get(self, request: Request) -> Response:
        assert isinstance(self.query, SeriesQuery)  # noqa: S101 (tells the type checker)
        self.require_operator()
        periods = self.query.periods(timezone.now())
        series = [_step(*found) for found in zip(periods, read_samples(periods), strict=True)]
        present = {name: _part(part) for name, part in measure().items()}
        told = {"step": self.query.step, "timeZone": self.query.time_zone, "now": present, "series": series}
        return self.answer(told)


def _part(part: Part) -> dict[str, Any]:
    figures = {camel_name(name): float(value) for name, value in part.figures.items()}
    return ResourcePart(status=part.error or "ok", figures=figures).model_dump(by_alias=True)


def _step(period: Period, spreads: dict[str, Spread]) -> dict[str, Any]:
    figures: dict[str, dict[str, ResourceSpread]] = {}
    for figure, spread in spreads.items():
        part, _, name = figure.partition(".")
        shown = ResourceSpread(min=spread.lowest, avg=round(spread.mean, 2), max=spread.highest)
        figures.setdefault(part, {})[camel_name(name)] = shown
    item = ResourceStep(day=period.day, starts_at=period.starts_at, ends_at=period.ends_at, figures=figures)
    return item.model_dump(mode="json", by_alias=True)


routes = [path("analytics/resources", ResourcesPage.as_view())]
