"""Admin page of plans."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpRequest

from external_apis.admin.pages import InstallationAdmin
from external_apis.backoffice import plans
from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.models import Plan
from external_apis.tenancy import Scope


@register(Plan)
class PlanAdmin(ShowsRefusals, InstallationAdmin):
    list_display: ClassVar = ["name", "slug", "tokens", "price_minor", "currency", "is_active"]
    list_filter: ClassVar = ["is_active"]
    search_fields: ClassVar = ["name", "slug", "=id"]
    fields: ClassVar = ["name", "slug", "tokens", "price_minor", "currency", "is_active"]

    def bound(self, scope: Scope, rows: QuerySet[Any]) -> QuerySet[Any]:
        """All tenants share them."""
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Accounts keep the slug."""
        return ["slug"] if obj else []

    def delete_model(self, request: HttpRequest, obj: Plan) -> None:
        plans.delete_plan(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Plan]) -> None:
        for plan in queryset:
            plans.delete_plan(plan)
