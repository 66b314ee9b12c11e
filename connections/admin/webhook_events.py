"""Admin pages of webhooks that came in, and of those that were refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from connections.models import EventStatus, WebhookEvent, WebhookRefusal
from connections.webhooks.inbound import layouts
from connections.webhooks.inbound.events import delivery_of
from connections.webhooks.inbound.replay import replay
from connections.webhooks.inbound.summary import explain, is_tried_again
from external_apis.admin.pages import QuickModelAdmin
from external_apis.admin.row_pages import Button
from external_apis.errors import ApiManagerError

_TRIED_AGAIN = "waiting to be tried again"
_SEARCHED = 100_000
_COLOURS = {"received": "info", _TRIED_AGAIN: "warning", "processed": "success", "ignored": "warning", "dead": "danger"}
_LONGEST_SHOWN = 100_000


class _ReadOnly(QuickModelAdmin):
    """What came from outside is looked at and not edited."""

    list_select_related: ClassVar = ["external_api", "tenant"]
    actions: ClassVar = []

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="provider")
    def provider(self, obj: Any) -> str:
        return f"{obj.external_api.name} ({obj.external_api.slug})"


@admin.register(WebhookEvent)
class WebhookEventAdmin(_ReadOnly):
    list_display: ClassVar = [
        "event_type",
        "event_id",
        "provider",
        "shown_status",
        "explanation",
        "attempts",
        "next_attempt",
        "received_at",
        "tenant",
    ]
    list_filter: ClassVar = ["status"]
    search_fields: ClassVar = ["=id", "=event_id", "=event_type", "=request_id"]
    search_help_text = f"Id; or the provider's id, type or request id of the latest {_SEARCHED:,}"
    ordering: ClassVar = ["-id"]
    actions: ClassVar = ["replay_selected"]
    fieldsets: ClassVar = [
        (None, {"fields": ["provider", "event_type", "event_id", "id", "shown_status", "tenant", "connection"]}),
        ("Handlers", {"fields": ["attempts", "next_attempt", "explanation", "outcomes"]}),
        ("What came", {"fields": ["received_at", "finished_at", "request_id", "shown_payload"]}),
    ]
    readonly_fields: ClassVar = [name for _, options in fieldsets for name in options["fields"]]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("content")

    @display(description="status", ordering="status", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: WebhookEvent) -> str:
        return _TRIED_AGAIN if is_tried_again(obj) else obj.status

    @admin.display(description="explanation", empty_value="")
    def explanation(self, obj: WebhookEvent) -> str:
        return explain(obj)

    @admin.display(description="next attempt", empty_value="")
    def next_attempt(self, obj: WebhookEvent) -> datetime | None:
        return obj.due_at

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """What is looked for without an index is looked for among the latest."""
        if search_term and not search_term.startswith("wev_"):
            older = queryset.order_by("-id").values_list("pk", flat=True)[_SEARCHED : _SEARCHED + 1]
            queryset = queryset.filter(pk__gt=older[0]) if older else queryset
        elif search_term:
            return queryset.filter(pk=search_term), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return found

    @admin.display(description="outcomes")
    def outcomes(self, obj: WebhookEvent) -> str:
        lines = (
            (name, result["status"], result["attempts"], result["at"], result.get("error", ""))
            for name, result in obj.results.items()
        )
        return format_html_join("", "<div>{}: {} (attempt {}, {}) {}</div>", lines) or "no handler has run"

    @admin.display(description="payload")
    def shown_payload(self, obj: WebhookEvent) -> SafeString | str:
        try:
            delivery = delivery_of(obj)
        except ApiManagerError as error:
            return error.message
        text = None
        if delivery.payload is not None and layouts.is_shallow(delivery.payload):
            text = layouts.write(delivery.payload, _LONGEST_SHOWN, indent=2, separators=(",", ": "))
        # One that is too long or too deeply nested to be laid out is shown as it came.
        if text is None:
            text = delivery.body.decode("utf-8", "replace")
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]} …"
        return format_html("<pre>{}</pre>", shown.encode("utf-8", "replace").decode())

    # --- replay -------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.replay_view))
        return [path("<path:object_id>/replay/", view, name=self.url_name("replay")), *super().get_urls()]

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Process the event once more."""
        row = self.changeable_or_404(request, object_id)
        problem = _replay(row)
        text = problem or "It is processed now."
        self.message_user(request, text, messages.ERROR if problem else messages.SUCCESS)
        return self.to_row(row)

    @admin.action(description="Replay selected events", permissions=["change"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Process events once more; those that are not processed yet are left alone."""
        problems = [_replay(row) for row in self.taken(request, queryset)]
        done = problems.count("")
        text = f"Replayed: {done}." + (f" Not processed yet: {len(problems) - done}." if len(problems) > done else "")
        self.message_user(request, text, messages.SUCCESS if done else messages.WARNING)

    def row_buttons(self, request: HttpRequest, obj: WebhookEvent) -> list[Button]:
        if not self.has_change_permission(request, obj) or (obj.status == EventStatus.RECEIVED and not obj.attempts):
            return []
        label = "Try now" if is_tried_again(obj) else "Replay"
        return [Button(label, self.row_url(obj, "replay"), "replay", is_post=True)]

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        context |= {"show_save": False, "show_save_and_continue": False, "show_save_and_add_another": False}
        return super().render_change_form(request, context, add, change, form_url, obj)


@admin.register(WebhookRefusal)
class WebhookRefusalAdmin(_ReadOnly):
    """One row for each provider and reason; nothing of what was sent is kept."""

    list_display: ClassVar = ["provider", "reason", "count", "last_at", "explanation", "tenant"]
    list_filter: ClassVar = ["reason"]
    search_fields: ClassVar = ["external_api__slug"]
    search_help_text = "The provider's slug"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _replay(row: WebhookEvent) -> str:
    """Replay an event; return what is in the way, if anything is."""
    try:
        replay(row)
    except ApiManagerError as error:
        return error.message
    return ""
