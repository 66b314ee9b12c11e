"""What the pages of connections and providers tell of calls: the last hour, the last day, and those that failed."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from connections.admin.grants import GrantPages
from connections.call_figures import Figures, Periods, latest_calls, periods_of, recent_figures

CALLS_SHOWN = 10


def shown_figures(periods: Periods) -> list[tuple[str, Figures]]:
    """Return what the table shows."""
    hour, day = recent_figures(periods, timezone.now())
    return [("Last hour", hour), ("Last day", day)]


class CallPages(GrantPages):
    """The part of the connections' pages that is about calls."""

    change_form_outer_after_template = "connections/after_form.html"

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None and self.is_own(request, obj):
            context["call_figures"] = shown_figures(periods_of(obj))
            context["failed_calls"] = latest_calls(obj).exclude(error="")[:CALLS_SHOWN]
        return super().render_change_form(request, context, add, change, form_url, obj)
