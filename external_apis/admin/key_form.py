"""The forms of an API key: one that makes it, one that renames it."""

from __future__ import annotations

from typing import ClassVar

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
)

from external_apis import keys
from external_apis.admin.service_form import ServiceForm
from external_apis.key_granting import OPERATOR, Granter
from external_apis.key_input import MAX_SECONDS
from external_apis.models import ApiKey
from external_apis.scopes import SCOPES


class NewKeyForm(ServiceForm):
    """Makes a key as ``granter``; ``token`` is there once it is stored."""

    granter: Granter = OPERATOR
    token = ""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {meaning}") for scope, meaning in SCOPES.items()],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        required=False,
    )
    allowed_networks = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        required=False,
        help_text="IP addresses and networks such as 10.1.0.0/16, one a line; from everywhere when empty.",
    )

    class Meta:
        model = ApiKey
        fields: ClassVar = ["title", "type", "mode", "scopes", "tenant", "owner", "service", "expires_at", "rate_limit"]

    def store(self) -> ApiKey:
        given = {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}
        for name in ("tenant", "owner"):
            if (row := given.pop(name, None)) is not None:
                given[f"{name}_id"] = row.pk
        given["allowed_networks"] = given.get("allowed_networks", "").split()
        created = keys.create(given, self.granter)
        self.token = created.token
        return created.key

    def field_for(self, path: str) -> str | None:
        return super().field_for(path.partition(".")[0].removesuffix("_id"))


class KeyTitleForm(ServiceForm):
    """Renames a key: of what it may do nothing can be changed."""

    class Meta:
        model = ApiKey
        fields: ClassVar = ["title"]

    def store(self) -> ApiKey:
        return keys.rename(self.instance, {"title": self.cleaned_data["title"]})


class EndForm(forms.Form):
    """Asks in how many seconds a key is to end."""

    seconds = forms.IntegerField(
        min_value=0,
        max_value=MAX_SECONDS,
        initial=0,
        widget=UnfoldAdminIntegerFieldWidget,
        label="Seconds that the key works yet",
        help_text="0 ends it now; 86400 is a day.",
    )
