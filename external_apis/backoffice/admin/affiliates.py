"""Admin pages of affiliates, with their ledger; what they store goes through the service."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from external_apis.admin.pages import FormAdmin
from external_apis.admin.service_form import ServiceForm
from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.affiliates import (
    create_affiliate,
    delete_affiliate,
    owed_affiliates,
    update_affiliate,
)
from external_apis.backoffice.models import Affiliate, AffiliateStatus
from external_apis.tenancy import scope_of

_COLOURS = {AffiliateStatus.ACTIVE: "success", AffiliateStatus.SUSPENDED: "warning"}
_ENTRIES_SHOWN = 100


class AffiliateForm(ServiceForm):
    """Its fields are those of the service's body."""

    class Meta:
        model = Affiliate
        fields = ("code", "name", "email", "commission_basis_points", "currency", "status", "tenant", "account")
        labels: ClassVar = {"account": "user"}
        help_texts: ClassVar = {
            "commission_basis_points": "Hundredths of a per cent of a sale: 1250 is 12.5 %.",
            "currency": "Such as EUR. Balance and withdrawals are in its minor unit, and it cannot be changed.",
            "account": "The user who is this affiliate, of the same tenant.",
        }

    def store(self) -> Affiliate:
        """Write it, and note as whom."""
        given = {name: self.cleaned_data[name] for name in self.fields if name not in {"tenant", "account"}}
        if "account" in self.fields:
            account = self.cleaned_data["account"]
            given["user_id"] = None if account is None else account.pk
        if self.instance._state.adding:
            tenant = self.cleaned_data.get("tenant")
            return create_affiliate({**given, "tenant_id": None if tenant is None else tenant.pk}, self.scope)
        return update_affiliate(self.instance, given)

    def field_for(self, path: str) -> str | None:
        return super().field_for({"user_id": "account", "tenant_id": "tenant"}.get(path, path))


@register(Affiliate)
class AffiliateAdmin(ShowsRefusals, FormAdmin):
    form = AffiliateForm
    list_display: ClassVar = [
        "code",
        "name",
        "email",
        "shown_status",
        "tenant",
        "referrals",
        "balance_minor",
        "currency",
    ]
    list_filter: ClassVar = ["status"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["code", "name", "email", "=id"]
    autocomplete_fields: ClassVar = ["tenant"]
    raw_id_fields: ClassVar = ["account"]
    ordering: ClassVar = ["-id"]
    change_form_outer_after_template = "backoffice/affiliate_ledger.html"
    _figures: ClassVar = ["id", "referrals", "balance_minor", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Affiliate]:
        return super().get_queryset(request).filter(deleted_at=None)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        is_bound = scope_of(request.user).tenant_id is not None
        fields = [name for name in AffiliateForm.Meta.fields if name != "tenant" or not is_bound or obj]
        return [(None, {"fields": fields}), *([("Figures", {"fields": self._figures})] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self._figures, *(("currency", "tenant") if obj else ())]

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Nothing else goes with an affiliate; whoever is owed something stays, and is named."""
        rows = objs if isinstance(objs, QuerySet) else self.get_queryset(request).filter(pk=objs[0].pk)
        owed = [f"{row} is still owed something" for row in owed_affiliates(rows)]
        return [f"{row} ({row.pk})" for row in rows], {str(self.opts.verbose_name_plural): rows.count()}, set(), owed

    def delete_row(self, row: Affiliate) -> None:
        delete_affiliate(row)

    @display(description="status", label=_COLOURS, ordering="status")  # type: ignore[untyped-decorator]
    def shown_status(self, obj: Affiliate) -> str:
        return obj.status

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            context["ledger"] = obj.entries.all()[:_ENTRIES_SHOWN]
        return super().render_change_form(request, context, add, change, form_url, obj)
