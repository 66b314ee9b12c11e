"""``/api/external/analytics/usage``: what AI models were used for, step by step and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any

from django.urls import path
from django.utils import timezone
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, reads
from external_apis.backoffice.ai_usage_series import Usage, check_subject, read_shares, read_steps, total
from external_apis.backoffice.models import AiDimension
from external_apis.backoffice.periods import Period, SeriesQuery, SeriesStep, whole
from external_apis.errors import InvalidInput
from external_apis.json_output import Timestamp, timestamp
from external_apis.provider_input import RowId
from external_apis.query_input import DIGITS_ALONE
from external_apis.tenancy import Scope


class UsageBy(StrEnum):
    MODEL = "model"
    USER = "user"
    CONNECTION = "connection"


class UsageFigures(CamelAnswer):
    """Figures lag behind the calls by some seconds."""

    calls: int
    """Chat completions that a provider answered with success."""
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    """As the provider counted them; of an answer that was cut short or is in events, and does not tell, an estimate."""


class UsageStep(UsageFigures):
    day: date
    """The first one of the step, in the time zone asked for."""
    starts_at: Timestamp
    ends_at: Timestamp


class UsageShare(UsageFigures):
    id: str
    """Of the model, user or connection, which need not be there any more."""


class UsageReport(CamelAnswer):
    step: SeriesStep
    time_zone: str
    by: UsageBy
    total: UsageFigures
    series: list[UsageStep]
    breakdown: list[UsageShare]
    """Most tokens first."""
    page: int
    per_page: int
    has_next: bool
    """Whether there is more of the breakdown."""


class UsageQuery(SeriesQuery):
    by: UsageBy | None = None
    """What the breakdown is by: what is filtered by, or models."""
    model_id: RowId = ""
    """Of one model. One of these filters may be given: sums are kept by one thing at a time."""
    user_id: RowId = ""
    connection_id: RowId = ""
    page: Annotated[int, Field(ge=1, le=100_000), DIGITS_ALONE] = 1
    """Which page of the breakdown, from 1."""
    per_page: Annotated[int, Field(ge=1, le=100), DIGITS_ALONE] = 20

    def filtered(self) -> tuple[AiDimension | None, str]:
        """Return what is filtered by and its id. Raises `InvalidInput` for two filters, or one beside another `by`."""
        given = {by: getattr(self, f"{by}_id") for by in UsageBy if getattr(self, f"{by}_id")}
        if not given:
            return None, ""
        by = next(iter(given))
        if len(given) > 1 or self.by not in (None, by):
            raise InvalidInput.of(f"{by}Id", "goes with no other filter, and with no other `by`")
        return AiDimension(by), given[by]


class UsagePage(ResourceView):
    @reads("get_usage_analytics", "analytics:read", UsageReport, "Show tokens and calls of AI models", UsageQuery)
    def get(self, request: Request) -> Response:
        assert isinstance(self.query, UsageQuery)  # noqa: S101 (tells the type checker)
        return self.answer(_report(self.query, self.scope))


def _report(query: UsageQuery, scope: Scope) -> dict[str, Any]:
    dimension, subject = query.filtered()
    if dimension is not None:
        check_subject(dimension, subject, scope)
    by = UsageBy(dimension or query.by or UsageBy.MODEL)
    periods = query.periods(timezone.now())
    steps = read_steps(periods, scope, dimension, subject)
    first = (query.page - 1) * query.per_page
    shares = read_shares(whole(periods), scope, AiDimension(by), subject, first=first, count=query.per_page + 1)
    return {
        "step": query.step,
        "timeZone": query.time_zone,
        "by": by,
        "total": _figures(total(steps)),
        "series": _series(periods, steps),
        "breakdown": [{"id": name, **_figures(usage)} for name, usage in shares[: query.per_page]],
        "page": query.page,
        "perPage": query.per_page,
        "hasNext": len(shares) > query.per_page,
    }


def _series(periods: Sequence[Period], steps: Sequence[Usage]) -> list[dict[str, Any]]:
    """Each step ends where the next one starts."""
    borders = [timestamp(period.starts_at) for period in periods] + [timestamp(periods[-1].ends_at)]
    return [
        {"day": period.day.isoformat(), "startsAt": starts_at, "endsAt": ends_at, **_figures(usage)}
        for period, (starts_at, ends_at), usage in zip(periods, pairwise(borders), steps, strict=True)
    ]


def _figures(usage: Usage) -> dict[str, Any]:
    return {
        "calls": usage.calls,
        "promptTokens": usage.prompt_tokens,
        "completionTokens": usage.completion_tokens,
        "totalTokens": usage.total_tokens,
    }


routes = [path("analytics/usage", UsagePage.as_view())]
