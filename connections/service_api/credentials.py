"""A service's credentials: those of the tenant's ``default`` connection of that provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from connections import lookup
from connections.credentials import ADDITIONAL_DATA
from connections.editing import create_connection, replace_credentials
from connections.models import ConnectionStatus, ExternalApiConnection
from connections.oauth.refresh import ensure_fresh
from connections.service_api.bodies import CredentialsInput
from connections.service_api.refusals import in_seed_words
from external_apis import audit, providers
from external_apis.errors import ApiManagerError, Conflict, Forbidden, InvalidInput, NotFound
from external_apis.models import ExternalApi
from external_apis.provider_input import read_body
from external_apis.tenancy import Scope

__all__ = ["read", "store"]

DEFAULT = "default"


def read(api: ExternalApi, scope: Scope) -> tuple[ExternalApiConnection, dict[str, Any]]:
    """Return the connection and all of its credentials in clear, once the event of their reading is committed.

    A token near its end is renewed first. What the service's auth type does not use, because it was another one when
    they were stored, is left out. Raises `NotFound` where there are none or they were revoked, `Conflict` where none of
    them fits any more, `VaultError`, and as `ensure_fresh` does where a token has ended and is not renewed.
    """
    row = _default_of(api, scope)
    credential = getattr(row, "credential", None)
    if row is None or credential is None or row.status == ConnectionStatus.REVOKED:
        raise NotFound(f"Service with ID '{api.pk}' has no credentials")
    row = _fresh(row)
    credential = row.credential
    used = providers.open_config(api).api_config.credentials_expected() | {ADDITIONAL_DATA}
    opened: dict[str, Any] = {name: value for name, value in credential.secrets.items() if name in used}
    if credential.secrets and not opened.keys() - {ADDITIONAL_DATA}:
        message = (
            f"The service authenticates by {api.auth_type} now, and what is stored is for another way. Store it anew."
        )
        raise Conflict(message)
    if ADDITIONAL_DATA in opened:
        opened[ADDITIONAL_DATA] = json.loads(opened[ADDITIONAL_DATA])
    facts = {"token_type": credential.token_type, "scopes": credential.scopes}
    opened |= {name: value for name, value in facts.items() if value}
    audit.record_reading("credentials.read", row, opened)
    return row, opened


def store(api: ExternalApi, data: Mapping[str, Any], scope: Scope) -> ExternalApiConnection:
    """Store credentials in place of those that there are, all of them or none, and the auth type that they are for.

    Raises `InvalidInput` with field paths, `Forbidden` for another auth type of a service of the whole installation.
    """
    body = read_body(CredentialsInput, data)
    if body.service_id not in (None, api.pk):
        raise InvalidInput.of("service_id", "is not the id in the path")
    if not body.credentials:
        raise InvalidInput.of("credentials", "is empty; to have none, delete the service or revoke the connection")
    if "expires_at" in body.credentials:
        raise InvalidInput.of("credentials.expires_at", "stands beside credentials, not in them")
    credentials = {**body.credentials, "expires_at": body.expires_at}
    with in_seed_words(), transaction.atomic():
        _lock(api, scope)
        if body.auth_type not in (None, api.auth_type):
            if not scope.owns(api):
                raise Forbidden("This service belongs to the whole installation; its auth type is not yours to change.")
            api = providers.update_external_api(api, {"api_config": {"auth_type": body.auth_type}}, scope)
        row = _default_of(api, scope)
        if row is not None:
            return replace_credentials(row, credentials)
        fields = {"connection_name": api.name, "slug": DEFAULT, "credentials": credentials}
        return create_connection(api, fields, scope)


def _fresh(row: ExternalApiConnection) -> ExternalApiConnection:
    try:
        return ensure_fresh(row)
    except ApiManagerError:
        if "access_token" in row.credential.secrets:
            raise
        # No token was ever fetched with what is stored, and it may be looked at to see why.
        return row


def _default_of(api: ExternalApi, scope: Scope) -> ExternalApiConnection | None:
    """Return the connection that belongs to the tenant as a whole and to no single user; another tenant's never."""
    rows = scope.own(lookup.of_provider(api)).select_related("credential")
    row = rows.filter(slug=DEFAULT, user=None, tenant_id=_tenant_of(api, scope), partner_id=api.partner_id).first()
    if row is not None:
        row.external_api = api
    return row


def _tenant_of(api: ExternalApi, scope: Scope) -> str | None:
    return scope.tenant_id or api.tenant_id


def _lock(api: ExternalApi, scope: Scope) -> None:
    """Let nobody else store credentials of this service for this tenant until the transaction ends."""
    with connection.cursor() as cursor:
        name = f"credentials of {api.pk} for {_tenant_of(api, scope)}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
