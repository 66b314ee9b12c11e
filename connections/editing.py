"""Create, change, delete and restore connections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from itertools import count
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from connections import lookup
from connections.belonging import find_account, find_owner, find_partner, find_tenant
from connections.connection_input import ConnectionChanges, ConnectionInput
from connections.credentials import CredentialInput, read_credentials
from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential
from connections.oauth import grants
from external_apis import audit
from external_apis.api_config import url_values
from external_apis.errors import Conflict
from external_apis.models import ExternalApi
from external_apis.provider_input import read_body, refuse_given_id
from external_apis.providers import open_config
from external_apis.tenancy import EVERYTHING, Scope

_SLUG_ATTEMPTS = 10
_TOKEN_NAMES = {"access_token", "refresh_token", "expires_at"}
_NO_FACTS: Mapping[str, Any] = {"token_type": "", "expires_at": None, "scopes": []}


def create_connection(api: ExternalApi, data: Mapping[str, Any], scope: Scope = EVERYTHING) -> ExternalApiConnection:
    """Store a connection to a provider from the seed's body; its credentials are sealed.

    Raises `InvalidInput` with field paths, also of URL variables that ``provider_data`` lacks; `NotFound` for rows it
    refers to, `Conflict` for a slug in use.
    """
    connection, credentials = _draft(api, read_body(ConnectionInput, data), scope)
    with transaction.atomic():
        if connection.slug:
            _save(connection)
        else:
            _save_under_a_free_slug(connection)
        credential = ExternalApiCredential(connection=connection, tenant=connection.tenant)
        _apply(credential, credentials)
        credential.save()
        grants.begin_anew(connection)
        facts = audit.changed_fields(connection) | credential.changes_since(None)
        audit.record("connection.created", connection, facts)
    return connection


def check_connection(api: ExternalApi, data: Mapping[str, Any], scope: Scope = EVERYTHING) -> ExternalApiConnection:
    """Return what `create_connection` would store, with nothing stored; raises as it does but for a slug in use."""
    return _draft(api, read_body(ConnectionInput, data), scope)[0]


def update_connection(
    connection: ExternalApiConnection, data: Mapping[str, Any], scope: Scope = EVERYTHING
) -> ExternalApiConnection:
    """Change a connection. Credentials that are not mentioned stay; new ones make an expired connection active."""
    body = read_body(ConnectionChanges, data)
    given = body.model_fields_set
    with transaction.atomic():
        connection = _locked(connection)
        before, credential_before, credential_changes = copy(connection), None, {}
        for name in given & {"connection_name", "slug", "provider_data", "note", "rotate_by", "status"}:
            setattr(connection, name, getattr(body, name))
        if "owner_id" in given:
            connection.owner = find_account(body.owner_id, scope)
        if given & {"provider_data", "credentials"}:
            config = open_config(connection.external_api).api_config
        if "provider_data" in given:
            url_values(config, body.provider_data)
        if "credentials" in given:
            credential = _credential_of(connection)
            credential_before = copy(credential)
            _apply(credential, read_credentials(body.credentials, config))
            credential.save()
            credential_changes = credential.changes_since(credential_before)
            connection.authenticated_at = timezone.now()
            if connection.status in (ConnectionStatus.EXPIRED, ConnectionStatus.ERROR) and "status" not in given:
                connection.status = ConnectionStatus.ACTIVE
                connection.error_message = None
        _save(connection)
        if "status" in given or _TOKEN_NAMES & body.credentials.keys():
            grants.begin_anew(connection, credential_before)
        facts = audit.changed_fields(connection, before) | credential_changes
        audit.record("connection.updated", connection, facts)
    return connection


def replace_credentials(connection: ExternalApiConnection, data: Mapping[str, Any]) -> ExternalApiConnection:
    """Store credentials in place of all that a connection had; with them it is active, whatever it was.

    Raises `InvalidInput` with field paths.
    """
    with transaction.atomic():
        connection = _locked(connection)
        given = read_credentials(data, open_config(connection.external_api).api_config)
        credential = _credential_of(connection)
        before, credential_before = copy(connection), copy(credential)
        credential.secrets = {name: value for name, value in given.secrets.items() if value is not None}
        for name, value in {**_NO_FACTS, **given.facts}.items():
            setattr(credential, name, value)
        credential.save()
        connection.authenticated_at = timezone.now()
        connection.status, connection.error_message = ConnectionStatus.ACTIVE, None
        _save(connection)
        grants.begin_anew(connection, credential_before)
        facts = audit.changed_fields(connection, before) | credential.changes_since(credential_before)
        audit.record("connection.updated", connection, facts)
    return connection


def delete_connection(connection: ExternalApiConnection) -> None:
    """Delete softly; the sealed credentials stay until the row is purged."""
    connection.deleted_at = timezone.now()
    with transaction.atomic():
        connection.save(update_fields=["deleted_at"])
        audit.record("connection.deleted", connection)


def restore_connection(connection: ExternalApiConnection) -> None:
    """Undo a soft delete. Raises `Conflict` where another live connection has taken the slug."""
    connection.deleted_at = None
    with transaction.atomic():
        _save(connection)
        grants.begin_anew(connection)
        audit.record("connection.restored", connection)


def _locked(connection: ExternalApiConnection) -> ExternalApiConnection:
    rows = ExternalApiConnection.objects.select_for_update(of=("self",))
    return rows.select_related("external_api", "credential").get(pk=connection.pk)


def _credential_of(connection: ExternalApiConnection) -> ExternalApiCredential:
    credential: ExternalApiCredential | None = getattr(connection, "credential", None)
    return credential or ExternalApiCredential(connection=connection, tenant_id=connection.tenant_id)


def _draft(api: ExternalApi, body: ConnectionInput, scope: Scope) -> tuple[ExternalApiConnection, CredentialInput]:
    refuse_given_id(body.id, scope)
    config = open_config(api).api_config
    credentials = read_credentials(body.credentials, config)
    url_values(config, body.provider_data)
    tenant = find_tenant(api, body.sales_channel_id, scope)
    connection = ExternalApiConnection(
        external_api=api,
        connection_name=body.connection_name,
        slug=body.slug or "",
        tenant=tenant,
        partner=find_partner(api, body.partner_id, tenant),
        user=find_account(body.user_id, scope),
        owner=find_owner(body.owner_id, scope),
        note=body.note,
        rotate_by=body.rotate_by,
        provider_data=body.provider_data,
    )
    if body.id:
        if ExternalApiConnection.objects.filter(pk=body.id).exists():
            raise Conflict(f"A connection with the id {body.id} exists already.")
        connection.id = body.id
    return connection, credentials


def _apply(credential: ExternalApiCredential, given: CredentialInput) -> None:
    credential.secrets = credential.secrets_beside(given.secrets).merged(given.secrets)
    for name, value in given.facts.items():
        setattr(credential, name, value)


def _save(connection: ExternalApiConnection) -> None:
    try:
        with transaction.atomic():
            connection.save()
    except IntegrityError:
        raise Conflict(
            f"A connection {connection.slug!r} exists already for this provider, tenant, partner and user."
        ) from None


def _save_under_a_free_slug(connection: ExternalApiConnection) -> None:
    """Save under the next free slug, and under the one after where another request has just taken that."""
    for attempts_left in reversed(range(_SLUG_ATTEMPTS)):
        connection.slug = _free_slug(connection)
        try:
            _save(connection)
        except Conflict:
            if not attempts_left:
                raise
        else:
            return


def _free_slug(connection: ExternalApiConnection) -> str:
    """``default`` for the first connection of a provider, tenant, partner and user, then one made of the name."""
    beside = lookup.live().filter(
        external_api=connection.external_api,
        tenant=connection.tenant,
        partner=connection.partner,
        user=connection.user,
    )
    if not beside.filter(slug="default").exists():
        return "default"
    base = re.sub(r"[^a-z0-9]+", "-", connection.connection_name.lower()).strip("-")[:90] or "connection"
    taken = set(beside.filter(slug__startswith=base).values_list("slug", flat=True))
    candidates = (base if number == 1 else f"{base}-{number}" for number in count(1))
    return next(slug for slug in candidates if slug not in taken)
