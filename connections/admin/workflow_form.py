"""The form that starts a workflow."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget

from connections import workflows
from connections.models import WorkflowRun
from external_apis.admin.json_field import MappingField
from external_apis.key_granting import Granter
from external_apis.models import Tenant
from external_apis.tenancy import Scope

_NO_TENANT = "(no tenant)"


class StartForm(forms.Form):
    """Which workflow, with which input, and for which of the tenants that whoever asks may act for."""

    name = forms.ChoiceField(label="Workflow", widget=UnfoldAdminSelectWidget)
    input = MappingField(label="Input")
    tenant = forms.ModelChoiceField(
        Tenant.objects.none(), required=False, empty_label=_NO_TENANT, widget=UnfoldAdminSelectWidget
    )

    def __init__(self, *args: Any, scope: Scope, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = [one.name for one in workflows.workflows()]
        name, tenant = self.fields["name"], self.fields["tenant"]
        assert isinstance(name, forms.ChoiceField)  # noqa: S101 (tells the type checker)
        assert isinstance(tenant, forms.ModelChoiceField)  # noqa: S101
        name.choices = [(one, one) for one in names]
        if scope.tenant_id is None:
            tenant.queryset = Tenant.objects.order_by("name")
        else:
            del self.fields["tenant"]

    def start(self, granter: Granter) -> WorkflowRun:
        """Start it; raises as `workflows.start`."""
        tenant = self.cleaned_data.get("tenant")
        return workflows.start(
            self.cleaned_data["name"],
            self.cleaned_data["input"],
            tenant=None if tenant is None else tenant.pk,
            granter=granter,
        )
