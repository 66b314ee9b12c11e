"""What a connection's page tells of its calls: the last hour, the last day, and those that failed."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from connections.admin.grants import GrantPages
from connections.call_figures import latest_calls, recent_figures

CALLS_SHOWN = 10


class CallPages(GrantPages):
    """The part of the connections' pages that is about calls."""

    change_form_outer_after_template = "connections/after_form.html"

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None and self.is_own(request, obj):
            hour, day = recent_figures(obj, timezone.now())
            context["call_figures"] = [("Last hour", hour), ("Last day", day)]
            context["failed_calls"] = latest_calls(obj).exclude(error="")[:CALLS_SHOWN]
        return super().render_change_form(request, context, add, change, form_url, obj)
