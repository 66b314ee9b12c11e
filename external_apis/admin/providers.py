"""Admin pages of providers."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display

from external_apis import catalogue
from external_apis.admin.config_fields import COMMON, auth_types, config_fields
from external_apis.admin.pages import DeletedFilter, ServiceAdmin
from external_apis.admin.provider_form import ProviderForm, auth_label
from external_apis.adoption import find_preset
from external_apis.errors import ApiManagerError, NotFound
from external_apis.models import ExternalApi
from external_apis.providers import delete_external_api, restore_external_api
from external_apis.tenancy import Scope

_STATUS_COLOURS = {"active": "success", "inactive": "danger", "deprecated": "warning"}
_SECTIONS = {
    "proxy": (
        "Gateway: what other programs may call",
        "Limits calls through its connections at /api/external/proxy/. Left empty, everything may be called.",
    ),
}
"""Title and explanation of the blocks whose name does not say enough."""


@admin.register(ExternalApi)
class ProviderAdmin(ServiceAdmin):
    """Everybody reads global definitions; only those that own a row change it."""

    form = ProviderForm
    list_display: ClassVar = [
        "name",
        "slug",
        "shown_auth",
        "category",
        "environment",
        "is_sandbox",
        "shown_status",
        "tenant",
    ]
    list_filter: ClassVar = ["status", ("category", ChoicesDropdownFilter), "environment", "is_sandbox", DeletedFilter]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["name", "slug", "=id"]
    search_help_text = "Name, slug or id"
    ordering: ClassVar = ["slug", "id"]
    autocomplete_fields: ClassVar = ["tenant", "partner"]
    actions_list: ClassVar = ["add_from_catalogue"]

    @action(description="Add from catalogue", url_path="add-from-catalogue", icon="menu_book", permissions=["add"])  # type: ignore[untyped-decorator]
    def add_from_catalogue(self, request: HttpRequest) -> HttpResponse:
        """Leads to the catalogue, where a search and one click fill the form."""
        return HttpResponseRedirect(reverse("admin:external_apis_catalogueentry_changelist"))

    def delete_row(self, row: ExternalApi) -> None:
        delete_external_api(row)

    def restore_row(self, row: ExternalApi) -> None:
        restore_external_api(row)

    def bound(self, scope: Scope, rows: QuerySet[Any]) -> QuerySet[Any]:
        return scope.readable(rows)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else ["id", "tenant", "partner", "created", "updated"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        columns = ["name", "slug", "category", "provider", "description", "status", "environment", "is_sandbox"]
        columns += ["tenant", "partner"]
        facts = [] if obj is None else ["id", "created", "updated"]
        if obj is not None and not self.is_own(request, obj):
            return [(None, {"fields": [*columns, "id"]}), ("Configuration", {"fields": ["shown_config"]})]
        if obj is not None and not self.has_change_permission(request, obj):
            return [
                (None, {"fields": [*columns, *facts]}),
                ("Configuration", {"fields": ["shown_config", "shown_secrets"]}),
            ]
        common = config_fields(COMMON)
        blocks = dict.fromkeys(field.block for field in common if field.block)
        groups = [name for name in auth_types() if config_fields(name)]
        return [
            (None, {"fields": [*columns, *facts]}),
            ("Configuration", {"fields": [field.name for field in common if not field.block]}),
            ("Authentication", {"fields": ["auth_type"]}),
            *(
                (auth_label(name), {"fields": [f.name for f in config_fields(name)], "classes": [f"auth-type-{name}"]})
                for name in groups
            ),
            *(
                (_title(block), _collapsed(block, [field.name for field in common if field.block == block]))
                for block in blocks
            ),
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A definition of the catalogue (``?preset=stripe``) fills the form; discovery completes those that need it."""
        slug = request.GET.get("preset", "")[:100]
        try:
            preset = find_preset(slug) if slug else None
        except NotFound:
            preset = None
        except ApiManagerError as error:
            self.message_user(
                request, f"The catalogue knows only where {slug} tells of itself: {error.message}", messages.WARNING
            )
            preset = catalogue.find(slug)
        if preset is None:
            return {}
        names = ("slug", "name", "category", "provider", "api_config")
        return {name: getattr(preset, name) for name in names}

    @display(description="status", ordering="status", label=_STATUS_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: ExternalApi) -> str:
        return obj.status

    @admin.display(description="authentication")
    def shown_auth(self, obj: ExternalApi) -> str:
        return auth_label(obj.auth_type)

    @admin.display(description="created")
    def created(self, obj: ExternalApi) -> str:
        return _when_and_who(obj.created_at, obj.created_by)

    @admin.display(description="last changed")
    def updated(self, obj: ExternalApi) -> str:
        return _when_and_who(obj.updated_at, obj.updated_by)

    @admin.display(description="configuration")
    def shown_config(self, obj: ExternalApi) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(obj.api_config, indent=2, ensure_ascii=False))

    @admin.display(description="stored secrets")
    def shown_secrets(self, obj: ExternalApi) -> str:
        rows = ((path, fingerprint) for path, fingerprint in obj.fingerprints.items())
        return format_html_join("", "<div>{} (fingerprint {})</div>", rows) or "-"


def _title(block: str) -> str:
    return _SECTIONS.get(block, ("", ""))[0] or block.replace("_config", "").replace("_", " ").capitalize()


def _collapsed(block: str, names: list[str]) -> dict[str, Any]:
    return {"fields": names, "classes": ["collapse"], "description": _SECTIONS.get(block, ("", ""))[1]}


def _when_and_who(moment: Any, actor: str | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC by {actor or 'unknown'}"
