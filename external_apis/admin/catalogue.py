"""The catalogue as a list to choose from; it is written by ``manage.py seed_providers`` alone."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from external_apis.admin.pages import QuickModelAdmin
from external_apis.admin.provider_form import auth_label
from external_apis.models import CatalogueEntry


@admin.register(CatalogueEntry)
class CatalogueAdmin(QuickModelAdmin):
    list_display: ClassVar = ["name", "category", "shown_auth", "base_url", "use"]
    list_filter: ClassVar = [("category", ChoicesDropdownFilter)]
    search_fields: ClassVar = ["name", "slug", "provider"]
    ordering: ClassVar = ["name"]
    fields: ClassVar = ["name", "slug", "category", "provider", "docs_url", "shown_config", "use"]

    def bound(self, scope: Any, rows: Any) -> Any:
        return rows

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="authentication")
    def shown_auth(self, obj: CatalogueEntry) -> str:
        return auth_label(str(obj.api_config.get("auth_type", "")))

    @admin.display(description="base URL")
    def base_url(self, obj: CatalogueEntry) -> str:
        return str(obj.api_config.get("base_url", ""))

    @admin.display(description="configuration")
    def shown_config(self, obj: CatalogueEntry) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(obj.api_config, indent=2, ensure_ascii=False))

    @admin.display(description="make a provider of it")
    def use(self, obj: CatalogueEntry) -> SafeString:
        url = reverse("admin:external_apis_externalapi_add")
        return format_html('<a class="underline" href="{}?{}">Add provider</a>', url, urlencode({"preset": obj.slug}))
