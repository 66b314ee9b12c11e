"""Admin pages of connections."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from connections.admin.calls import CallPages
from connections.admin.connection_form import connection_form, credential_fields, stored_credential
from connections.models import ExternalApiConnection, ExternalApiCredential
from connections.services import delete_connection, restore_connection, test_connection
from external_apis import providers
from external_apis.admin.pages import DeletedFilter
from external_apis.admin.provider_form import auth_label
from external_apis.admin.row_pages import Button
from external_apis.models import ExternalApi
from external_apis.tenancy import scope_of

_STATUS_COLOURS = {"active": "success", "expired": "warning", "revoked": "danger", "error": "danger"}
_OFFERED_AT_MOST = 50


@admin.register(ExternalApiConnection)
class ConnectionAdmin(CallPages):
    """A connection is added to a provider (``add/?external_api=…``), whose auth type decides on the fields."""

    list_display: ClassVar = [
        "connection_name",
        "reference",
        "shown_status",
        "tenant",
        "last_used_at",
        "calls",
        "failed",
    ]
    list_filter: ClassVar = [
        "status",
        ("external_api", AutocompleteSelectFilter),
        ("external_api__category", ChoicesDropdownFilter),
        ("external_api__environment", ChoicesDropdownFilter),
        ("tenant", AutocompleteSelectFilter),
        DeletedFilter,
    ]
    list_select_related: ClassVar = ["external_api", "tenant"]
    search_fields: ClassVar = ["connection_name"]
    search_help_text = "Name, slug, id, provider, or provider/connection"
    ordering: ClassVar = ["-id"]
    autocomplete_fields: ClassVar = ["tenant", "partner", "user", "owner"]

    def delete_row(self, row: ExternalApiConnection) -> None:
        delete_connection(row)

    def restore_row(self, row: ExternalApiConnection) -> None:
        restore_connection(row)

    def histories(self, row: ExternalApiConnection) -> list[QuerySet[Any]]:
        return [*super().histories(row), ExternalApiCredential.history.filter(connection_id=row.pk)]

    # --- list -------------------------------------------------------------------------------------------------------

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find a name or slug by any part of it, an id, a provider's connections, or ``provider/connection``.

        Of 100,000 rows the database reads names and slugs in some 30 ms.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        provider, slash, slug = term.partition("/")
        if slash:
            api_ids = list(ExternalApi.objects.filter(slug=provider).values_list("pk", flat=True))
            return queryset.filter(external_api_id__in=api_ids, slug__startswith=slug), False
        named = ExternalApi.objects.filter(Q(slug__startswith=term) | Q(name__icontains=term))
        api_ids = list(named.values_list("pk", flat=True)[:_OFFERED_AT_MOST])
        found = Q(connection_name__icontains=term) | Q(slug__contains=term.lower()) | Q(pk=term)
        return queryset.filter(found | Q(external_api_id__in=api_ids)), False

    @admin.display(description="reference")
    def reference(self, obj: ExternalApiConnection) -> str:
        return f"{obj.external_api.slug}/{obj.slug}"

    @display(description="status", label=_STATUS_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: ExternalApiConnection) -> str:
        return obj.status

    @admin.display(description="calls", ordering="calls_count")
    def calls(self, obj: ExternalApiConnection) -> int:
        return obj.calls_count

    @admin.display(description="errors", ordering="errors_count")
    def failed(self, obj: ExternalApiConnection) -> int:
        return obj.errors_count

    # --- form -------------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        api = obj.external_api if obj else self._chosen_provider(request)
        if api is not None:
            kwargs["form"] = connection_form(api)
        return super().get_form(request, obj, change=change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        if obj is None:
            return ["provider"]
        return [
            "id",
            "provider",
            "tenant",
            "partner",
            "user",
            "gateway",
            "use",
            "calls",
            "failed",
            "problem",
            *self.grant_fields(),
        ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        names = ["provider", "connection_name", "slug"]
        more = ("More", {"fields": ["provider_data", "note", "rotate_by"]})
        belonging = ("Belongs to", {"fields": ["tenant", "partner", "user", "owner"]})
        if obj is None:
            api = self._chosen_provider(request)
            credentials = credential_fields(api) if api else []
            return [(None, {"fields": names}), *_credentials_fieldset(credentials), more, belonging]
        credentials = credential_fields(obj.external_api)
        if not self.has_change_permission(request, obj):
            credentials = ["shown_secrets"]
            more = ("More", {"fields": ["shown_data", "note", "rotate_by"]})
        usage = ("Use", {"fields": ["id", "gateway", "use", "calls", "failed", "problem"]})
        return [
            (None, {"fields": [*names, "status"]}),
            *self.grant_fieldsets(obj),
            *_credentials_fieldset(credentials, obj),
            more,
            belonging,
            usage,
        ]

    @admin.display(description="provider")
    def provider(self, obj: ExternalApiConnection) -> str:
        return f"{obj.external_api} ({obj.external_api.slug}, {auth_label(obj.external_api.auth_type)})"

    @admin.display(description="base URL for other programs")
    def gateway(self, obj: ExternalApiConnection) -> SafeString:
        """Calls below it go to the provider, with a key of ours in the place of the secret."""
        return format_html("<code>{}</code>", f"{settings.PUBLIC_BASE_URL}/api/external/proxy/{obj.pk}")

    @admin.display(description="last used")
    def use(self, obj: ExternalApiConnection) -> str:
        last = f"{obj.last_used_at:%Y-%m-%d %H:%M:%S} UTC" if obj.last_used_at else "never"
        return f"{last}; credentials of {obj.authenticated_at:%Y-%m-%d %H:%M:%S} UTC"

    @admin.display(description="last problem")
    def problem(self, obj: ExternalApiConnection) -> str:
        return obj.error_message or "-"

    @admin.display(description="provider data")
    def shown_data(self, obj: ExternalApiConnection) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(obj.provider_data, indent=2, ensure_ascii=False))

    @admin.display(description="stored credentials")
    def shown_secrets(self, obj: ExternalApiConnection) -> str:
        credential = stored_credential(obj)
        rows = credential.fingerprints.items() if credential else ()
        return format_html_join("", "<div>{} (fingerprint {})</div>", rows) or "-"

    # --- add: first the provider --------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Refused like Django's where adding is not allowed; else the provider comes first."""
        if self.has_add_permission(request) and self._chosen_provider(request) is None:
            return self._provider_chooser(request)
        response: HttpResponse = super().add_view(request, form_url, extra_context)
        return response

    def _provider_chooser(self, request: HttpRequest) -> HttpResponse:
        """A page of links: it works without scripts, by keyboard, and with any number of providers."""
        term = request.GET.get("q", "").strip()[:100]
        rows = scope_of(request.user).readable(providers.live())
        if term:
            rows = rows.filter(Q(slug__startswith=term.lower()) | Q(name__icontains=term))
        found = list(rows.order_by("name", "pk")[: _OFFERED_AT_MOST + 1])
        shown = {"providers": found[:_OFFERED_AT_MOST], "has_more": len(found) > _OFFERED_AT_MOST, "term": term}
        title = "Which provider is the new connection for?"
        return self.page(request, "connections/choose_provider.html", title, shown)

    def _chosen_provider(self, request: HttpRequest) -> ExternalApi | None:
        reference = request.GET.get("external_api", "")[:100]
        rows = scope_of(request.user).readable(providers.live())
        return rows.filter(pk=reference).first() if reference else None

    # --- test ---------------------------------------------------------------------------------------------------------

    def row_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        buttons = super().row_buttons(request, obj)
        if self.has_change_permission(request, obj) and not obj.external_api.is_deleted:
            buttons.append(Button("Test connection", self.row_url(obj, "test"), "bolt", is_post=True))
        return buttons

    def get_urls(self) -> list[URLPattern]:
        test = self.admin_site.admin_view(require_POST(self.test_view))
        return [path("<path:object_id>/test/", test, name=self.url_name("test")), *super().get_urls()]

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Really call the provider and say what it answered, and how long that took."""
        row = self.row_or_404(request, object_id)
        if not self.has_change_permission(request, row) or row.external_api.is_deleted:
            raise Http404
        outcome = test_connection(row)
        level = messages.SUCCESS if outcome.is_ok else messages.ERROR
        verdict = "works" if outcome.is_ok else "does not work"
        status = f"HTTP {outcome.status}, " if outcome.status else ""
        text = f"The connection {verdict}: {outcome.message} ({status}{outcome.duration_ms} ms)"
        self.message_user(request, text, level)
        return self.to_row(row)


def _credentials_fieldset(names: list[str], connection: ExternalApiConnection | None = None) -> list[Any]:
    description = "Stored encrypted. A stored value is never shown; an empty field keeps it."
    if connection is not None and stored_credential(connection) is None:
        description = "The stored credentials are missing: the connection works again once new ones are saved."
    return [("Credentials", {"fields": names, "description": description})] if names else []
