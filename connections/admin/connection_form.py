"""The form of a connection: its columns, and the credentials that its provider's auth type uses."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from unfold.widgets import UnfoldAdminSplitDateTimeWidget

from connections.editing import create_connection, update_connection
from connections.models import ExternalApiConnection, ExternalApiCredential
from external_apis import api_config
from external_apis.admin.config_fields import label_of
from external_apis.admin.json_field import MappingField
from external_apis.admin.lines_field import LinesField
from external_apis.admin.secret_input import SecretChange, SecretField
from external_apis.admin.service_form import ServiceForm
from external_apis.models import ExternalApi

_PREFIX = "credentials."
_FACTS = (f"{_PREFIX}expires_at", f"{_PREFIX}scopes")
_COLUMNS = ("connection_name", "provider_data", "note", "rotate_by")
_BODY_NAMES = {"sales_channel_id": "tenant", "partner_id": "partner", "user_id": "user"}


def credential_fields(api: ExternalApi) -> list[str]:
    """Names of the form's credential fields for a provider, in the order of its auth type."""
    config = api_config.join(api.api_config, {})
    expected = config.credentials_expected()
    known = [name for name in config.credential_names if name in expected]
    secrets = [f"{_PREFIX}{name}" for name in (*known, *sorted(expected - set(known)))]
    return [*secrets, *_FACTS] if "access_token" in expected else secrets


def stored_credential(connection: ExternalApiConnection) -> ExternalApiCredential | None:
    """The row of sealed values, None where it is missing."""
    found: ExternalApiCredential | None = getattr(connection, "credential", None)
    return found


def connection_form(api: ExternalApi) -> type[ConnectionForm]:
    """Return the form for connections to a provider."""
    fields: dict[str, Any] = {}
    for name in credential_fields(api):
        if name not in _FACTS:
            fields[name] = SecretField(label=label_of(name.removeprefix(_PREFIX)))
        elif name.endswith("expires_at"):
            fields[name] = forms.SplitDateTimeField(
                label="Expires at", required=False, widget=UnfoldAdminSplitDateTimeWidget(), help_text="UTC"
            )
        else:
            fields[name] = LinesField(label="Scopes", help_text="One a line.")
    return type("ConnectionForm", (ConnectionForm,), {**fields, "api": api, "__module__": __name__})


class ConnectionForm(ServiceForm):
    """What all connections have; `connection_form` adds the credentials."""

    api: ExternalApi
    provider_data = MappingField(
        label="Provider data",
        help_text='What the provider calls this account, as JSON: {"account_id": "acct_1"}. Never a secret.',
    )

    class Meta:
        model = ExternalApiConnection
        fields: ClassVar = [*_COLUMNS, "slug", "status", "owner", *_BODY_NAMES.values()]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        given = kwargs.get("initial") or {}
        credential = stored_credential(instance) if instance else None
        facts = {name: getattr(credential, name.removeprefix(_PREFIX), None) for name in _FACTS}
        kwargs["initial"] = {**(facts if instance else {"slug": ""}), **given}
        super().__init__(*args, **kwargs)
        if not instance:
            self.instance.external_api = self.api
        if "slug" in self.fields and not instance:
            self.fields["slug"].required = False
            self.fields["slug"].help_text = "Left empty: 'default' for the first connection, else made of the name."
        if "note" in self.fields:
            self.fields["note"].widget.attrs["rows"] = 3
        stored = credential.fingerprints if credential else {}
        for name, field in self.fields.items():
            if isinstance(field, SecretField) and name.removeprefix(_PREFIX) in stored:
                field.mark_stored()

    def store(self) -> ExternalApiConnection:
        data = self.cleaned_data
        body: dict[str, Any] = {name: data[name] for name in _COLUMNS}
        body["owner_id"] = _key(data.get("owner"))
        if data.get("slug"):
            body["slug"] = data["slug"]
        credentials = self._credentials()
        if self.instance._state.adding:
            body |= {name: _key(data.get(field)) for name, field in _BODY_NAMES.items()}
            return create_connection(self.api, {**body, "credentials": credentials}, self.scope)
        if credentials:
            body["credentials"] = credentials
        # New credentials make an expired connection active, unless somebody chose a status.
        if "status" in self.changed_data:
            body["status"] = data["status"]
        return update_connection(self.instance, body, self.scope)

    def field_for(self, path: str) -> str | None:
        if path == "owner_id":
            return "owner"
        found = super().field_for(_BODY_NAMES.get(path, path))
        return found or ("provider_data" if path.startswith("provider_data.") else None)

    def _credentials(self) -> dict[str, Any]:
        """Changed credentials alone: None removes one, and those that stay are not mentioned."""
        changed: dict[str, Any] = {}
        for name in self.changed_data:
            if name.startswith(_PREFIX):
                value = self.cleaned_data[name]
                if isinstance(value, SecretChange):
                    value = None if value.is_removed else value.value
                changed[name.removeprefix(_PREFIX)] = value
        return changed


def _key(row: Any) -> str | None:
    return row.pk if row is not None else None
