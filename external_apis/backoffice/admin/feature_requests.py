"""Admin page of feature requests; votes are counted and not edited."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest
from unfold.decorators import display

from external_apis.admin.pages import FormAdmin
from external_apis.admin.service_form import ServiceForm
from external_apis.admin.text_field import TextField
from external_apis.backoffice import feature_requests
from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.models import FeatureRequest, FeatureStatus
from external_apis.tenancy import scope_of

_COLOURS = {
    FeatureStatus.OPEN: "info",
    FeatureStatus.PLANNED: "warning",
    FeatureStatus.IN_PROGRESS: "warning",
    FeatureStatus.DONE: "success",
    FeatureStatus.DECLINED: "danger",
}


class FeatureRequestForm(ServiceForm):
    class Meta:
        model = FeatureRequest
        fields: ClassVar = ["title", "description", "status", "tenant"]
        field_classes: ClassVar = {"description": TextField}

    def store(self) -> FeatureRequest:
        """Note a request, or change it: whose it is cannot be changed."""
        given = {name: self.cleaned_data[name] for name in ("title", "description")}
        if not self.instance._state.adding:
            changed = {name: self.cleaned_data[name] for name in self.changed_data if name in self.cleaned_data}
            return feature_requests.update_feature_request(self.instance, changed)
        tenant = self.cleaned_data.get("tenant")
        return feature_requests.create_feature_request({**given, "tenant_id": tenant and tenant.pk}, self.scope)


@register(FeatureRequest)
class FeatureRequestAdmin(ShowsRefusals, FormAdmin):
    form = FeatureRequestForm
    list_display: ClassVar = ["title", "shown_status", "votes", "tenant", "created_at"]
    list_filter: ClassVar = ["status"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["title", "description", "=id"]
    ordering: ClassVar = ["-votes", "-id"]
    autocomplete_fields: ClassVar = ["tenant"]

    @display(description="status", ordering="status", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: FeatureRequest) -> str:
        return obj.status

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            own = [] if scope_of(request.user).tenant_id is not None else ["tenant"]
            return [(None, {"fields": ["title", "description", *own]})]
        fields = ["title", "description", "status"]
        return [
            (None, {"fields": fields}),
            ("State", {"fields": ["id", "tenant", "votes", "created_at", "updated_at"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else list(self.get_fieldsets(request, obj)[1][1]["fields"])

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        # Its votes go with it, and are too many to be listed.
        named = [f"{obj} ({obj.votes} votes)" for obj in objs]
        return named, {str(self.opts.verbose_name_plural): len(named)}, set(), []

    def delete_row(self, row: FeatureRequest) -> None:
        feature_requests.delete_feature_request(row)
