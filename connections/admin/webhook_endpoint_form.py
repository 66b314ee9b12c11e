"""The forms of a webhook endpoint: one that makes it, one that changes it, and those of its buttons."""

from __future__ import annotations

from typing import ClassVar

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldBooleanSwitchWidget,
)

from connections.models import WebhookEndpoint
from connections.webhooks.outbound import endpoints
from external_apis.admin.service_form import ServiceForm
from external_apis.event_types import EVENT_TYPES, EVERYTHING, TEST

_GROUPS = dict.fromkeys(f"{name.partition('.')[0]}.*" for name in EVENT_TYPES if "." in name)
_CHOICES = [
    (EVERYTHING, "*: everything, and what later versions add"),
    *((group, f"{group}: all of these") for group in _GROUPS),
    *((name, f"{name}: {meaning}") for name, meaning in EVENT_TYPES.items() if name != TEST),
]


class WrappingCheckboxes(UnfoldAdminCheckboxSelectMultipleWidget):
    """Checkboxes whose labels have as many lines as they need."""

    option_template_name = "connections/wrapping_option.html"


class EndpointForm(ServiceForm):
    """What both forms ask for."""

    events = forms.MultipleChoiceField(choices=_CHOICES, widget=WrappingCheckboxes, required=False)


class NewEndpointForm(EndpointForm):
    """Makes an endpoint."""

    class Meta:
        model = WebhookEndpoint
        fields: ClassVar = ["url", "description", "tenant"]

    def store(self) -> WebhookEndpoint:
        tenant = self.cleaned_data.get("tenant")
        given = {name: self.cleaned_data[name] for name in ("url", "description", "events")}
        return endpoints.create({**given, "tenant_id": tenant.pk if tenant else None}, self.scope).endpoint

    def field_for(self, path: str) -> str | None:
        return super().field_for(path.partition(".")[0].removesuffix("_id"))


class ChangedEndpointForm(EndpointForm):
    """Changes an endpoint: whose it is cannot be changed, as another tenant's events would go there."""

    class Meta:
        model = WebhookEndpoint
        fields: ClassVar = ["url", "description", "is_enabled"]

    def store(self) -> WebhookEndpoint:
        return endpoints.update(
            self.instance, {name: self.cleaned_data[name] for name in self.changed_data if name in self.cleaned_data}
        )


class RollForm(forms.Form):
    """Asks how long the old secret is to sign as well."""

    overlap_seconds = forms.IntegerField(
        min_value=0,
        max_value=endpoints.MAX_OVERLAP_SECONDS,
        initial=86_400,
        widget=UnfoldAdminIntegerFieldWidget,
        label="Seconds that messages are signed with the old secret as well",
        help_text="0 ends it now; 86400 is a day.",
    )


class ReplayForm(forms.Form):
    """Asks which deliveries are to be made again."""

    since = forms.SplitDateTimeField(
        widget=UnfoldAdminSplitDateTimeWidget, label="Events from this moment on", help_text="UTC."
    )
    only_failed = forms.BooleanField(
        widget=UnfoldBooleanSwitchWidget, required=False, initial=True, label="Only those that have not succeeded"
    )
