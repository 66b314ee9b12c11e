"""Admin pages of webhook endpoints: a new secret is shown once; what was sent, and sending it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.views.decorators.http import require_GET, require_POST
from unfold.decorators import display

from connections.admin.webhook_endpoint_form import ChangedEndpointForm, NewEndpointForm, ReplayForm, RollForm
from connections.models import WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound import endpoints, replays
from connections.webhooks.outbound.message import body_of
from connections.webhooks.outbound.signing import CURRENT
from external_apis.admin.pages import QuickModelAdmin
from external_apis.admin.row_pages import Button
from external_apis.errors import ApiManagerError, NotFound, VaultError
from external_apis.tenancy import scope_of

DELIVERIES_SHOWN = 50
_UNSEEN = "webhook secrets to be shown"
_STATUS_COLOURS = {"on": "success", "failing": "warning", "slow": "warning", "off": "danger"}


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(QuickModelAdmin):
    list_display: ClassVar = ["url", "shown_status", "shown_events", "tenant", "description", "created_at"]
    list_filter: ClassVar = ["is_enabled"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["url", "description", "=id"]
    search_help_text = "URL, description or id"
    ordering: ClassVar = ["-id"]
    autocomplete_fields: ClassVar = ["tenant"]
    change_form_outer_after_template = "connections/webhook_deliveries.html"

    @display(description="status", label=_STATUS_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: WebhookEndpoint) -> str:
        if not obj.is_enabled:
            return "off"
        if obj.failing_since:
            return "failing"
        return "slow" if obj.is_slow else "on"

    @admin.display(description="events")
    def shown_events(self, obj: WebhookEndpoint) -> str:
        return ", ".join(obj.events)

    # --- form -------------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        chosen = ChangedEndpointForm if obj else NewEndpointForm
        form = super().get_form(request, obj, change=change, **{**kwargs, "form": chosen})
        form.scope = scope_of(request.user)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            own = [] if scope_of(request.user).tenant_id is not None else ["tenant"]
            return [(None, {"fields": ["url", "description", *own, "events"]})]
        facts = ["id", "tenant", "disabled_at", "disabled_reason", "failing_since", "is_slow"]
        return [
            (None, {"fields": ["url", "description", "is_enabled", "events"]}),
            ("State", {"fields": [*facts, "created_at", "created_by"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else list(self.get_fieldsets(request, obj)[1][1]["fields"])

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing: the form has stored the row."""

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return self._to_secret(request, obj)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        # Its deliveries go with it, and are too many to be listed.
        named = [str(obj) for obj in objs]
        return named, {str(self.opts.verbose_name_plural): len(named)}, set(), []

    def delete_model(self, request: HttpRequest, obj: WebhookEndpoint) -> None:
        endpoints.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for row in queryset:
            endpoints.delete(row)

    # --- pages ------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views: list[tuple[str, str, Callable[..., HttpResponse]]] = [
            ("test/", "test", require_POST(self.test_view)),
            ("roll/", "roll", self.roll_view),
            ("secret/", "secret", require_GET(self.secret_view)),
            ("replay/", "replay", self.replay_view),
            ("deliveries/<str:delivery_id>/", "delivery", self.delivery_view),
            ("deliveries/<str:delivery_id>/replay/", "replay_one", require_POST(self.replay_one_view)),
        ]
        own = [
            path(f"<str:object_id>/{route}", self.admin_site.admin_view(view), name=self.url_name(name))
            for route, name, view in views
        ]
        return [*own, *super().get_urls()]

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            context["deliveries"] = replays.deliveries_of(obj)[:DELIVERIES_SHOWN]
            context["deliveries_shown"] = DELIVERIES_SHOWN
            context["may_replay"] = self._may_send(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def row_buttons(self, request: HttpRequest, obj: WebhookEndpoint) -> list[Button]:
        if not self.has_change_permission(request, obj):
            return []
        roll = Button("Roll secret", self.row_url(obj, "roll"), "autorenew")
        if not obj.is_enabled:
            return [roll]
        return [
            Button("Send test event", self.row_url(obj, "test"), "send", is_post=True),
            Button("Replay", self.row_url(obj, "replay"), "replay"),
            roll,
        ]

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have a test event sent, whose delivery is then in the list."""
        row = self.changeable_or_404(request, object_id)
        return self._done(request, row, lambda: replays.send_test(row), "The test event is on its way.")

    def replay_one_view(self, request: HttpRequest, object_id: str, delivery_id: str) -> HttpResponse:
        """Have one delivery made again."""
        row = self.changeable_or_404(request, object_id)
        delivery = _delivery_or_404(row, delivery_id)
        return self._done(request, row, lambda: replays.replay(row, delivery), "The delivery is made again.")

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask since when, and have all deliveries from then on made again."""
        row = self.changeable_or_404(request, object_id)
        form = ReplayForm(request.POST or None)
        if form.is_valid():
            given = form.cleaned_data
            try:
                count = replays.replay_since(row, given["since"], only_failed=given["only_failed"])
            except ApiManagerError as error:
                form.add_error(None, error.message)
            else:
                self.message_user(request, f"Deliveries that are made again: {count}.", messages.SUCCESS)
                return self.to_row(row)
        return self._asking_page(request, row, form, "Replay")

    def roll_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the overlap, and show the new secret once."""
        row = self.changeable_or_404(request, object_id)
        form = RollForm(request.POST or None)
        if form.is_valid():
            rolled = endpoints.roll_secret(row, form.cleaned_data["overlap_seconds"])
            return self._to_secret(request, rolled.endpoint)
        return self._asking_page(request, row, form, "Roll secret")

    def secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show a secret once, to whoever has just had it made."""
        row = get_object_or_404(self.get_queryset(request), pk=unquote(object_id))
        unseen = request.session.get(_UNSEEN, {})
        made = unseen.pop(row.pk, None)
        if made is None or made != row.fingerprints.get(CURRENT):
            row = self.row_or_404(request, object_id)
            text = "The secret has been shown. Whoever has not copied it can have another one made by Roll secret."
            self.message_user(request, text, messages.WARNING)
            return self.to_row(row)
        request.session[_UNSEEN] = unseen
        context = {"endpoint": row, "secret": row.secrets[CURRENT]}
        return self.page(request, "connections/webhook_secret.html", f"Secret of {row}", context, row)

    def delivery_view(self, request: HttpRequest, object_id: str, delivery_id: str) -> HttpResponse:
        """What was sent, and what each attempt came to."""
        row = self.row_or_404(request, object_id)
        delivery = _delivery_or_404(row, delivery_id)
        attempts = [(attempt, _answer(attempt)) for attempt in replays.attempts_of(delivery)[:DELIVERIES_SHOWN]]
        context = {"endpoint": row, "delivery": delivery, "attempts": attempts, "body": body_of(delivery.event)}
        return self.page(request, "connections/webhook_delivery.html", f"{delivery.type} to {row}", context, row)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _may_send(self, request: HttpRequest, row: WebhookEndpoint) -> bool:
        return row.is_enabled and self.has_change_permission(request, row)

    def _done(self, request: HttpRequest, row: WebhookEndpoint, act: Callable[[], Any], message: str) -> HttpResponse:
        try:
            act()
        except ApiManagerError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, message, messages.SUCCESS)
        return self.to_row(row)

    def _asking_page(self, request: HttpRequest, row: WebhookEndpoint, form: Form, verb: str) -> HttpResponse:
        context = {"endpoint": row, "form": form, "verb": verb}
        return self.page(request, "connections/webhook_form.html", f"{verb}: {row}", context, row)

    def _to_secret(self, request: HttpRequest, row: WebhookEndpoint) -> HttpResponse:
        """To the page that shows the secret; the session knows which one, and not the secret."""
        request.session[_UNSEEN] = {**request.session.get(_UNSEEN, {}), row.pk: row.fingerprints[CURRENT]}
        return HttpResponseRedirect(self.row_url(row, "secret"))


def _delivery_or_404(row: WebhookEndpoint, delivery_id: str) -> WebhookDelivery:
    try:
        return replays.find_delivery(row, delivery_id)
    except NotFound:
        raise Http404 from None


def _answer(attempt: Any) -> str:
    try:
        return str(attempt.answer.get("body", ""))
    except VaultError:
        return "It cannot be opened."
