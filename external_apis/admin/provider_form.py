"""The form of a provider: its columns, and its configuration field by field."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.utils.functional import cached_property
from unfold.widgets import UnfoldAdminSelectWidget

from external_apis.admin.config_fields import COMMON, auth_types, config_fields, field_at, initial, patch
from external_apis.admin.lines_field import LinesField
from external_apis.admin.secret_input import SecretField
from external_apis.admin.service_form import ServiceForm
from external_apis.config_patch import merged
from external_apis.models import ExternalApi
from external_apis.providers import create_external_api, update_external_api

_COLUMNS = ("name", "slug", "category", "provider", "description", "status", "environment", "is_sandbox")
_GROUPS = (COMMON, *auth_types())
_BODY_NAMES = {"sales_channel_id": "tenant", "partner_id": "partner"}
_LABELS = {
    "oauth2": "OAuth 2.0",
    "oauth1": "OAuth 1.0a",
    "client_credentials": "OAuth 2.0 client credentials",
    "jwt_bearer": "JWT bearer assertion",
    "api_key": "API key",
    "hmac": "HMAC signature",
}


def auth_label(auth_type: str) -> str:
    return _LABELS.get(auth_type, auth_type.capitalize())


class ProviderForm(ServiceForm):
    """Fields of other auth types than the chosen one are posted too, and ignored."""

    auth_type = forms.ChoiceField(
        label="Authentication",
        choices=[(name, auth_label(name)) for name in auth_types()],
        initial="bearer",
        widget=UnfoldAdminSelectWidget(),
    )
    vars().update({field.name: field.form_field() for group in _GROUPS for field in config_fields(group)})

    class Meta:
        model = ExternalApi
        fields: ClassVar = [*_COLUMNS, "tenant", "partner"]

    class Media:
        js: ClassVar = ["external_apis/auth_type.js"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        given = kwargs.get("initial") or {}
        stored = instance.api_config if instance else given.get("api_config") or {}
        auth_type = stored.get("auth_type", "bearer")
        kwargs["initial"] = {"auth_type": auth_type, **initial(auth_type, stored), **given}
        super().__init__(*args, **kwargs)
        if "provider" in self.fields:
            self.fields["provider"].required = False
            self.fields["provider"].help_text += " The slug, unless you say otherwise."
        if instance:
            self._mark_stored_secrets(instance)

    @cached_property
    def changed_data(self) -> list[str]:
        """What the log says was changed: no field of an auth type that is not the chosen one."""
        ignored = {*auth_types()} - {self.data.get(self.add_prefix("auth_type"))}
        return [name for name in super().changed_data if name.partition(".")[0] not in ignored]

    def store(self) -> ExternalApi:
        data = self.cleaned_data
        body: dict[str, Any] = {name: data[name] for name in _COLUMNS}
        if not body["provider"]:
            body["provider"] = body["slug"]
        if not self.instance._state.adding:
            body["api_config"] = patch(data["auth_type"], data, self.instance.api_config)
            return update_external_api(self.instance, body)
        body["api_config"] = merged({}, patch(data["auth_type"], data, {}))
        body |= {name: data[field].pk for name, field in _BODY_NAMES.items() if data.get(field)}
        return create_external_api(body, self.scope)

    def field_for(self, path: str) -> str | None:
        if path.startswith("api_config"):
            if path == "api_config.auth_type":
                return "auth_type"
            return field_at(self.cleaned_data["auth_type"], path)
        return super().field_for(_BODY_NAMES.get(path, path))

    def part_of(self, field: str, path: str) -> str:
        index = path.rpartition(".")[2]
        if not isinstance(self.fields[field], LinesField) or not index.isdecimal():
            return ""
        return f'"{self.cleaned_data[field][int(index)][:100]}": '

    def _mark_stored_secrets(self, api: ExternalApi) -> None:
        stored = [tuple(path.split(".")) for path in api.fingerprints]
        for group in (COMMON, api.auth_type):
            for field in config_fields(group):
                form_field = self.fields[field.name]
                if isinstance(form_field, SecretField) and any(
                    path[: len(field.path)] == field.path for path in stored
                ):
                    form_field.mark_stored()
