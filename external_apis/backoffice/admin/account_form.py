"""Forms of an account: its plan as a choice, and its tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from external_apis.backoffice import plans
from external_apis.backoffice.models import MOST_TOKENS, Plan
from external_apis.backoffice.user_columns import is_
from external_apis.errors import InvalidInput
from external_apis.models import Account, Tenant


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    plan = forms.ChoiceField(
        required=False, widget=UnfoldAdminSelectWidget, help_text="A new plan sets the tokens to its allowance."
    )

    asker_is_superuser = False

    class Meta:
        model = Account
        fields = ("plan",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "plan" in self.fields:
            kept, given = self.instance.plan, Plan.objects.filter(is_active=True).values_list("slug", "name")
            self.fields["plan"].choices = list({kept: kept or "none", **dict(given)}.items())  # type: ignore[attr-defined]

    def clean_plan(self) -> str:
        slug: str = self.cleaned_data["plan"]
        if slug != self.initial.get("plan", ""):
            try:
                plans.find_plan(slug)
            except InvalidInput as error:
                raise forms.ValidationError(error.message) from None
        return slug

    def clean_tenant(self) -> Tenant | None:
        tenant: Tenant | None = self.cleaned_data["tenant"]
        is_freed = tenant is None and self.initial.get("tenant") is not None
        if is_freed and is_(self.instance.user, "is_staff") and not self.asker_is_superuser:
            message = "Only superusers take staff from their tenant: they get the rights of the whole installation."
            raise forms.ValidationError(message)
        return tenant


class TokensForm(forms.Form):
    operation = forms.ChoiceField(
        choices=(("add", "Add"), ("subtract", "Subtract"), ("set", "Set")), widget=UnfoldAdminSelectWidget
    )
    tokens = forms.IntegerField(min_value=0, max_value=MOST_TOKENS, widget=UnfoldAdminIntegerFieldWidget)
