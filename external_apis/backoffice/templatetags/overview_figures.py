"""The overview of the last 30 days, for the admin's first page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import template
from django.conf import settings
from django.utils import timezone

from external_apis.backoffice.overview import Change, read_overview
from external_apis.backoffice.periods import SeriesQuery
from external_apis.tenancy import scope_of

register = template.Library()


@dataclass(frozen=True)
class Line:
    name: str
    change: Change


@register.simple_tag(takes_context=True)
def overview_lines(context: dict[str, Any]) -> list[Line]:
    """Return what whoever looks may see, revenue in minor units; nothing where the backoffice is off."""
    if not settings.BACKOFFICE_ENABLED:
        return []
    overview = read_overview(SeriesQuery(), scope_of(context["request"].user), timezone.now())
    lines = [Line(name.capitalize(), overview.change_of(name)) for name in ("users", "connections", "calls", "errors")]
    revenue = [Line(f"Revenue ({name}, minor unit)", change) for name, change in overview.revenue_changes().items()]
    return lines + revenue
