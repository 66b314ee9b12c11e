"""What a connection's page tells and does about its grant: state, scopes, events; connect again, refresh, revoke."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST

from connections.models import ExternalApiConnection, Grant, GrantEvent, GrantState
from connections.oauth.revocation import revoke
from connections.oauth.scopes import scope_facts
from connections.services import refresh_token
from external_apis.admin.pages import ServiceAdmin
from external_apis.admin.row_pages import Button
from external_apis.errors import ApiManagerError
from external_apis.models import ExternalApi
from external_apis.oauth_config import BY_CONSENT, GRANTED, RENEWED
from external_apis.tenancy import scope_of

EVENTS_SHOWN = 50
_STATES = {
    GrantState.GOOD: "good",
    GrantState.IN_DOUBT: "in doubt: a renewal may or may not have happened; it is tried once more with the old token",
    GrantState.NEEDS_REAUTHORIZATION: "needs to be authorised again",
    GrantState.ENDED: "ended: nothing is left to renew",
}


def connect_url(api: ExternalApi, **query: str) -> str:
    """Return where a browser begins a trip to the provider, and comes back from with a connection."""
    url = reverse("oauth-authorize", kwargs={"reference": api.pk})
    return f"{url}?{urlencode(query)}" if query else url


class GrantPages(ServiceAdmin):
    """The part of the connections' pages that is about OAuth; other auth types show none of it."""

    def grant_fieldsets(self, obj: ExternalApiConnection) -> list[Any]:
        if obj.external_api.auth_type not in GRANTED:
            return []
        return [("Grant", {"fields": ["grant_state", "next_attempt", "token_until", "shown_scopes"]})]

    def grant_fields(self) -> list[str]:
        return ["grant_state", "next_attempt", "token_until", "shown_scopes"]

    @admin.display(description="state")
    def grant_state(self, obj: ExternalApiConnection) -> str:
        grant = _grant_of(obj)
        if grant is None:
            return "none yet: the first use fetches a token" if _fetches(obj) else "none yet"
        failures = f" ({grant.failures} failed attempts in a row)" if grant.failures else ""
        return f"{_STATES[GrantState(grant.state)]}{failures}"

    @admin.display(description="next attempt at")
    def next_attempt(self, obj: ExternalApiConnection) -> str:
        grant = _grant_of(obj)
        return _time(grant.due_at) if grant is not None and grant.due_at else "none is planned"

    @admin.display(description="access token until")
    def token_until(self, obj: ExternalApiConnection) -> str:
        credential = getattr(obj, "credential", None)
        return _time(credential.expires_at) if credential is not None and credential.expires_at else "no end is known"

    @admin.display(description="scopes")
    def shown_scopes(self, obj: ExternalApiConnection) -> str:
        facts = scope_facts(obj)
        told = [("requested", facts.requested), ("granted", facts.granted), ("missing", facts.missing)]
        text = "; ".join(f"{name}: {' '.join(scopes)}" for name, scopes in told if scopes) or "none are known"
        return f"{text}. It needs re-consent: connect again." if facts.needs_reconsent else text

    # --- buttons ------------------------------------------------------------------------------------------------------

    def row_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        buttons = super().row_buttons(request, obj)
        auth_type = obj.external_api.auth_type
        if auth_type not in GRANTED or not self._may_act(request, obj):
            return buttons
        if auth_type in BY_CONSENT:
            buttons.append(Button("Connect again", connect_url(obj.external_api, connection=obj.pk), "link"))
        if obj.status != "revoked":
            if auth_type in RENEWED:
                buttons.append(Button("Refresh now", self.row_url(obj, "refresh"), "refresh", is_post=True))
            buttons.append(Button("Revoke", self.row_url(obj, "revoke"), "link_off"))
        return buttons

    def get_urls(self) -> list[URLPattern]:
        views: list[tuple[str, Callable[..., HttpResponse]]] = [
            ("refresh", require_POST(self.refresh_view)),
            ("revoke", require_http_methods(["GET", "HEAD", "POST"])(self.revoke_view)),
        ]
        pages = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=self.url_name(name))
            for name, view in views
        ]
        return [*pages, *super().get_urls()]

    def refresh_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Renew the token now, whether or not it is due, and say how that went."""
        row = self._actionable(request, object_id)
        try:
            refresh_token(row.pk, scope=scope_of(request.user))
        except ApiManagerError as error:
            self.message_user(request, f"The token was not renewed: {error.message}", messages.ERROR)
        else:
            self.message_user(request, "The token is renewed.", messages.SUCCESS)
        return self.to_row(row)

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask first: what is revoked has to be connected again."""
        row = self._actionable(request, object_id)
        if request.method != "POST":
            shown = {"back": self.row_url(row, "change")}
            return self.page(request, "connections/revoke.html", f"Revoke {row}?", shown, row)
        try:
            done = revoke(row)
        except ApiManagerError as error:
            self.message_user(request, f"Nothing was revoked: {error.message}", messages.ERROR)
        else:
            level = messages.WARNING if done.was_told is False else messages.SUCCESS
            self.message_user(request, f"The connection is revoked. {done.message}", level)
        return self.to_row(row)

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None and obj.external_api.auth_type in GRANTED and self.is_own(request, obj):
            context["grant_events"] = GrantEvent.objects.filter(connection=obj)[:EVENTS_SHOWN]
            context["grant_events_shown"] = EVENTS_SHOWN
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _may_act(self, request: HttpRequest, row: ExternalApiConnection) -> bool:
        return self.has_change_permission(request, row) and not row.external_api.is_deleted

    def _actionable(self, request: HttpRequest, object_id: str) -> ExternalApiConnection:
        row: ExternalApiConnection = self.row_or_404(request, object_id)
        if row.external_api.auth_type not in GRANTED or not self._may_act(request, row):
            raise Http404
        return row


def _grant_of(row: ExternalApiConnection) -> Grant | None:
    grant: Grant | None = getattr(row, "grant", None)
    return grant


def _fetches(row: ExternalApiConnection) -> bool:
    return row.external_api.auth_type not in BY_CONSENT


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
