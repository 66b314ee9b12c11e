"""The provider's pages with the ways to its connections, of which the ground floor knows nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from connections.admin.calls import shown_figures
from connections.admin.grants import connect_url
from connections.call_figures import periods_of_provider
from connections.connecting import redirect_uri
from connections.models import WebhookRefusal
from connections.webhooks.inbound.addresses import receiving_url
from external_apis.admin.providers import ProviderAdmin
from external_apis.admin.row_pages import Button
from external_apis.models import ExternalApi
from external_apis.oauth_config import BY_CONSENT
from external_apis.tenancy import scope_of

admin.site.unregister(ExternalApi)
_PAGES = "admin:connections_externalapiconnection"
_ADD = "connections.add_externalapiconnection"


def callback_urls(api: ExternalApi) -> list[str]:
    """Return every address that the provider may send browsers back to; on this machine it goes by two names."""
    parts = urlsplit(settings.PUBLIC_BASE_URL)
    port = f":{parts.port}" if parts.port else ""
    origins = [settings.PUBLIC_BASE_URL, *(f"{parts.scheme}://{host}{port}" for host in ("127.0.0.1", "localhost"))]
    return list(dict.fromkeys(redirect_uri(api, origin) for origin in origins))


@admin.register(ExternalApi)
class ConnectedProviderAdmin(ProviderAdmin):
    """Adds 'Connect', 'Connections' and 'Add connection' for those who may, the callback's address, and figures."""

    change_form_outer_after_template = "connections/calls.html"

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None and request.user.has_perm("connections.view_externalapiconnection"):
            context["call_figures"] = shown_figures(periods_of_provider(obj, scope_of(request.user)))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None else [*fields, "callback", "webhook_address", "refused_webhooks"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        added: list[Any] = []
        if obj.auth_type in BY_CONSENT:
            description = "Register this at the provider as the redirect URI (callback), letter for letter."
            added.append(("Callback", {"fields": ["callback"], "description": description}))
        if obj.api_config.get("webhook") and self.is_own(request, obj):
            description = "Register this at the provider as the address of webhooks."
            added.append(("Webhooks", {"fields": ["webhook_address", "refused_webhooks"], "description": description}))
        return [fieldsets[0], *added, *fieldsets[1:]]

    @admin.display(description="callback URL")
    def callback(self, obj: ExternalApi) -> SafeString:
        rows = ((url,) for url in callback_urls(obj))
        return format_html_join("", '<div><code class="break-all select-all">{}</code></div>', rows)

    @admin.display(description="webhook URL")
    def webhook_address(self, obj: ExternalApi) -> SafeString:
        return format_html('<code class="break-all select-all">{}</code>', receiving_url(obj))

    @admin.display(description="refused webhooks")
    def refused_webhooks(self, obj: ExternalApi) -> str:
        refusals = WebhookRefusal.objects.filter(external_api=obj)
        rows = ((row.count, row.explanation, f"{row.last_at:%Y-%m-%d %H:%M:%S}") for row in refusals)
        return format_html_join("", "<div>{} times: {} (last {} UTC)</div>", rows) or "-"

    def row_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        buttons = super().row_buttons(request, obj)
        user = request.user
        if self._may_connect(request, obj):
            has_variables = bool(obj.api_config.get("url_variables"))
            url = self.row_url(obj, "connect") if has_variables else connect_url(obj)
            buttons.append(Button("Connect", url, "link"))
        if user.has_perm("connections.view_externalapiconnection"):
            url = f"{reverse(f'{_PAGES}_changelist')}?{urlencode({'external_api__id__exact': obj.pk})}"
            buttons.append(Button("Connections", url, "list"))
        if user.has_perm(_ADD) and not obj.is_deleted:
            url = f"{reverse(f'{_PAGES}_add')}?{urlencode({'external_api': obj.pk})}"
            buttons.append(Button("Add connection", url, "add_link"))
        return buttons

    def get_urls(self) -> list[URLPattern]:
        connect = self.admin_site.admin_view(require_safe(self.connect_view))
        return [path("<path:object_id>/connect/", connect, name=self.url_name("connect")), *super().get_urls()]

    def connect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the parts of the provider's addresses before the trip begins."""
        row = self.row_or_404(request, object_id)
        if not self._may_connect(request, row):
            raise Http404
        shown = {"authorize_url": connect_url(row), "variables": list(row.api_config.get("url_variables", {}))}
        return self.page(request, "connections/connect_provider.html", f"Connect an account at {row}", shown, row)

    def _may_connect(self, request: HttpRequest, api: ExternalApi) -> bool:
        return request.user.has_perm(_ADD) and not api.is_deleted and api.auth_type in BY_CONSENT
