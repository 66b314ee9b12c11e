"""``…/metrics`` and ``…/calls`` of connections, and ``…/metrics`` of providers: what became of the calls."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from django.urls import path
from django.utils import timezone
from pydantic import AwareDatetime, Field
from rest_framework.request import Request
from rest_framework.response import Response

from connections import lookup
from connections.call_figures import (
    Periods,
    figures_of,
    latest_calls,
    periods_between,
    periods_of,
    periods_of_provider,
)
from connections.client.measures import Bag, total
from connections.models import ObservedCall, Step
from external_apis import providers
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, PageQuery, Query, lists, reads
from external_apis.errors import InvalidInput
from external_apis.json_output import Timestamp

_SHOWN = {Step.MINUTE: timedelta(hours=1), Step.HOUR: timedelta(days=1), Step.DAY: timedelta(days=30)}


class CallFigures(CamelAnswer):
    """Figures lag behind the calls by some seconds. A call has all its attempts and waits in it."""

    calls: int
    errors: int
    errors_by_code: dict[str, int]
    """Under the codes of our errors, those of calls that got no slot of a rate limit among them."""
    answers_by_status: dict[str, int]
    """How many calls ended in an answer of `2xx`, `4xx`, …"""
    mean_ms: float | None
    p50_ms: float | None
    """Percentiles are at most 9 % off."""
    p90_ms: float | None
    p99_ms: float | None
    rate_limit_waits: int
    rate_limit_wait_seconds: float
    bytes_out: int
    """Of bodies."""
    bytes_in: int


class PeriodFigures(CallFigures):
    starts_at: Timestamp


class CallMetrics(CamelAnswer):
    step: Step
    total: CallFigures
    periods: list[PeriodFigures]
    """From the earliest on; one without a call is left out."""


class MetricsQuery(Query):
    step: Step = Step.HOUR
    since: Annotated[AwareDatetime | None, Field(alias="from")] = None
    """The first moment, with its offset: `2026-01-15T10:30:00Z`; an hour, a day or 30 days ago, as `step` says."""
    until: Annotated[AwareDatetime | None, Field(alias="to")] = None
    """The moment after the last one; now."""


class CallItem(CamelAnswer):
    """A call that failed, or one good one out of many."""

    ended_at: Timestamp
    method: str
    path: str
    """Without query; what could be a secret in it is masked."""
    status: int | None
    error: str
    """The code of what it ended in, empty for a good one."""
    duration_ms: int
    attempts: int
    request_id: str


class CallQuery(PageQuery):
    failed: bool | None = None
    """Whether it ended in an error."""


class MetricsPage(ResourceView):
    @reads("get_connection_metrics", "connections:read", CallMetrics, "Show the figures of its calls", MetricsQuery)
    def get(self, request: Request, connection_id: str) -> Response:
        return self.answer(_metrics(periods_of(lookup.find(connection_id, self.scope)), self.query))


class ProviderMetricsPage(ResourceView):
    """A key of a tenant sees the calls through the tenant's own connections, also those to everybody's providers."""

    @reads("get_provider_metrics", "providers:read", CallMetrics, "Show the figures of its calls", MetricsQuery)
    def get(self, request: Request, reference: str) -> Response:
        api = providers.find_by_id_or_slug(reference, self.scope)
        return self.answer(_metrics(periods_of_provider(api, self.scope), self.query))


class CallList(ResourceView):
    @lists("list_connection_calls", "connections:read", CallItem, CallQuery, "List its kept calls, the latest first")
    def get(self, request: Request, connection_id: str) -> Response:
        rows = latest_calls(lookup.find(connection_id, self.scope))
        failed = self.query.filters().get("failed")
        if failed is not None:
            rows = rows.exclude(error="") if failed else rows.filter(error="")
        return self.page(rows, _item)


def _metrics(periods: Periods, query: Query) -> dict[str, Any]:
    assert isinstance(query, MetricsQuery)  # noqa: S101 (tells the type checker)
    found = periods_between(periods, query.step, *_span(query))
    shown = CallMetrics(
        step=query.step,
        total=CallFigures(**_figures(total(bag for _, bag in found))),
        periods=[PeriodFigures(starts_at=at, **_figures(bag)) for at, bag in found],
    )
    return shown.model_dump(mode="json", by_alias=True)


def _span(query: MetricsQuery) -> tuple[datetime, datetime]:
    """Return the first moment and the one after the last; a period counts whose beginning lies between."""
    try:
        until = (query.until or timezone.now()).astimezone(UTC)
        since = (query.since or until - _SHOWN[query.step]).astimezone(UTC)
    except OverflowError:
        raise InvalidInput.of("to", "is out of range") from None
    if since >= until:
        raise InvalidInput.of("from", "is not before the end")
    return since, until


def _figures(bag: Bag) -> dict[str, Any]:
    return asdict(figures_of(bag))


def _item(row: ObservedCall) -> dict[str, Any]:
    return CallItem.model_validate(row, from_attributes=True).model_dump(mode="json", by_alias=True)


routes = [
    path("providers/<str:reference>/metrics", ProviderMetricsPage.as_view()),
    path("connections/<str:connection_id>/metrics", MetricsPage.as_view()),
    path("connections/<str:connection_id>/calls", CallList.as_view()),
]
