"""Admin pages of tenants, partners and accounts: they decide who sees what.

Of accounts the backoffice has a page that does more, in this one's place.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest

from external_apis.admin.pages import InstallationAdmin
from external_apis.models import Account, Partner, Tenant
from external_apis.tenancy import EVERYTHING, Scope


@admin.register(Tenant)
class TenantAdmin(InstallationAdmin):
    list_display: ClassVar = ["name", "slug", "is_active", "created_at"]
    list_filter: ClassVar = ["is_active"]
    search_fields: ClassVar = ["name", "slug", "=id"]
    fields: ClassVar = ["name", "slug", "is_active"]
    prepopulated_fields: ClassVar = {"slug": ["name"]}

    def bound(self, scope: Scope, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows if scope == EVERYTHING else rows.filter(pk=scope.tenant_id)


@admin.register(Partner)
class PartnerAdmin(InstallationAdmin):
    list_display: ClassVar = ["name", "slug", "tenant", "created_at"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["name", "slug", "=id"]
    fields: ClassVar = ["name", "slug", "tenant"]
    autocomplete_fields: ClassVar = ["tenant"]
    prepopulated_fields: ClassVar = {"slug": ["name"]}


@admin.register(Account)
class AccountAdmin(InstallationAdmin):
    list_display: ClassVar = ["user", "id", "tenant", "plan", "tokens"]
    list_select_related: ClassVar = ["user", "tenant"]
    search_fields: ClassVar = [f"^user__{get_user_model().USERNAME_FIELD}", "=id"]
    fields: ClassVar = ["user", "tenant", "plan", "tokens"]
    readonly_fields: ClassVar = ["user", "plan", "tokens"]
    autocomplete_fields: ClassVar = ["tenant"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """An account comes with its user."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """And goes with it: deleted from the pages of users, and from no page of its own."""
        route = request.resolver_match
        is_own_page = route is not None and (route.url_name or "").startswith(self.url_name(""))
        return not is_own_page and super().has_delete_permission(request, obj)
