"""Admin pages of AI models: what they are called, the order in which they are shown, and what their calls used."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from external_apis.admin.pages import FormAdmin
from external_apis.admin.row_pages import Button
from external_apis.admin.service_form import ServiceForm
from external_apis.backoffice import ai_models
from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.ai_usage_series import read_steps, total
from external_apis.backoffice.models import AiDimension, AiModel
from external_apis.backoffice.periods import SeriesQuery
from external_apis.errors import ApiManagerError
from external_apis.tenancy import scope_of

_SHOWN_FIELDS = ("name", "label", "tier", "supports_media", "enabled", "provider", "connection")
_MOST_ON_A_PAGE = 500
"""A place is a field, and Django takes forms of up to a thousand."""


class AiModelForm(ServiceForm):
    """Its fields are those of the service's body."""

    class Meta:
        model = AiModel
        fields = (*_SHOWN_FIELDS, "tenant")
        help_texts: ClassVar = {
            "name": "What the provider calls it.",
            "label": "What users see; the name unless given.",
            "tier": "Such as premium; nothing here reads it.",
            "provider": "Id or slug, where the connection is one of its slugs, or the only one that it has.",
            "connection": "Id (conn_…), a slug beside the provider, or provider/connection. It is looked up at a call.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "label" in self.fields:
            self.fields["label"].required = False

    def store(self) -> AiModel:
        given = {name: self.cleaned_data[name] for name in _SHOWN_FIELDS if name in self.fields}
        given["label"] = given.get("label") or given.get("name")
        if not self.instance._state.adding:
            return ai_models.update(self.instance, given)
        tenant = self.cleaned_data.get("tenant")
        return ai_models.create({**given, "tenant_id": None if tenant is None else tenant.pk}, self.scope)

    def field_for(self, path: str) -> str | None:
        return super().field_for({"tenant_id": "tenant"}.get(path, path))


class OrderForm(forms.Form):
    """A place for each model; those with the same one stay as they were among each other."""

    def __init__(self, models: QuerySet[AiModel], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ids = [model.pk for model in models]
        for place, model in enumerate(models, 1):
            widget = UnfoldAdminIntegerFieldWidget(attrs={"style": "width: 6rem"})
            self.fields[model.pk] = forms.IntegerField(
                min_value=0, initial=place, label=str(model), help_text=model.name, widget=widget
            )

    def ids(self) -> list[str]:
        """The models in their new order."""
        return sorted(self._ids, key=lambda model_id: int(self.cleaned_data[model_id]))


@register(AiModel)
class AiModelAdmin(ShowsRefusals, FormAdmin):
    form = AiModelForm
    list_display: ClassVar = ["label", "name", "tier", "supports_media", "enabled", "shown_connection", "tenant"]
    list_filter: ClassVar = ["enabled", "supports_media", "tier"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["name", "label", "=id"]
    search_help_text = "Name, label or id"
    autocomplete_fields: ClassVar = ["tenant"]

    @admin.display(description="connection")
    def shown_connection(self, obj: AiModel) -> str:
        return "/".join(filter(None, (obj.provider, obj.connection))) or "-"

    # --- storing ------------------------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """A tenant's staff make models of that tenant alone; whose one is does not change."""
        has_choice = obj is None and scope_of(request.user).tenant_id is None
        return [*_SHOWN_FIELDS, *(["tenant"] if has_choice else [])]

    def delete_row(self, row: AiModel) -> None:
        ai_models.delete(row)

    # --- pages --------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = (("order", self.order_view), ("usage", self.usage_view))
        own = [
            path(f"<str:object_id>/{name}/", self.admin_site.admin_view(view), name=self.url_name(name))
            for name, view in views
        ]
        return [*own, *super().get_urls()]

    def row_buttons(self, request: HttpRequest, obj: AiModel) -> list[Button]:
        usage = Button("Usage", self.row_url(obj, "usage"), "monitoring")
        order = Button("Order", self.row_url(obj, "order"), "swap_vert")
        return [usage, order] if self.has_change_permission(request, obj) else [usage]

    def order_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The places of all models of this one's tenant."""
        row = self.changeable_or_404(request, object_id)
        models = AiModel.objects.filter(tenant_id=row.tenant_id)[: _MOST_ON_A_PAGE + 1]
        if len(models) > _MOST_ON_A_PAGE:
            message = f"More than {_MOST_ON_A_PAGE} models are ordered by POST /api/external/models/reorder alone."
            self.message_user(request, message, messages.WARNING)
            return self.to_row(row)
        form = OrderForm(models, request.POST or None)
        if form.is_valid():
            try:
                ai_models.reorder(form.ids(), scope_of(request.user))
            except ApiManagerError as error:
                form.add_error(None, f"{error.message}. Somebody else has changed the models: look again.")
            else:
                self.message_user(request, "The models are in their new order.", messages.SUCCESS)
                return self.to_row(row)
        return self.page(request, "backoffice/ai_model_order.html", "Order of AI models", {"form": form}, row)

    def usage_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What its calls used, day by day, the latest first."""
        row = self.row_or_404(request, object_id)
        periods = SeriesQuery().periods(timezone.now())
        usages = read_steps(periods, scope_of(request.user), AiDimension.MODEL, row.pk)
        days = list(zip((period.day for period in periods), usages, strict=True))
        shown = {"days": days[::-1], "total": total(usages)}
        return self.page(request, "backoffice/ai_model_usage.html", f"Usage of {row}", shown, row)
