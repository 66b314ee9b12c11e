"""The row that says how a connection's tokens are renewed: made with them, begun anew when others are stored."""

from __future__ import annotations

from copy import copy
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential, Grant, GrantState
from connections.oauth import events
from connections.oauth.commits import put_tokens
from connections.oauth.due import renewal_time, warning_time
from connections.oauth.tokens import Tokens
from connections.opening import can_be_renewed, refresh_margin_seconds
from external_apis import audit

__all__ = ["AUTH_TYPES", "begin_anew", "end", "of", "store_tokens"]

AUTH_TYPES = ("oauth2", "client_credentials", "jwt_bearer")
"""The auth types whose access tokens end, and may be renewed."""


def of(row: ExternalApiConnection) -> Grant:
    """Return a connection's grant, made where there is none yet."""
    grant: Grant | None = getattr(row, "grant", None)
    if grant is None:
        defaults = {"tenant_id": row.tenant_id, "due_at": _due_at(row, timezone.now()), "rotates": _rotates(row)}
        grant = Grant.objects.get_or_create(connection_id=row.pk, defaults=defaults)[0]
    return grant


def store_tokens(
    connection: ExternalApiConnection,
    tokens: Tokens,
    *,
    cause: str,
    requested_scopes: list[str] | None = None,
    message: str = "",
) -> ExternalApiConnection:
    """Store tokens that somebody has just consented to, for a new connection or one that is authorised again.

    The connection becomes active, whatever was doubtful is over, and a renewal under way stores nothing any more. An
    answer without refresh token keeps the old one of a grant that is good. ``cause`` is ``callback``, ``device_code``
    or the like; the actor is that of the request. Returns the connection, saved.
    """
    with transaction.atomic():
        grant = _locked(connection)
        credential = getattr(connection, "credential", None) or ExternalApiCredential(
            connection=connection, tenant_id=connection.tenant_id
        )
        before, credential_before = copy(connection), None if credential._state.adding else copy(credential)
        is_first = credential._state.adding or not credential.secrets
        if not tokens.refresh_token and grant.state != GrantState.GOOD:
            credential.secrets = credential.secrets.merged({"refresh_token": None})
        put_tokens(credential, tokens)
        credential.save()
        connection.status, connection.error_message = ConnectionStatus.ACTIVE, None
        connection.authenticated_at = timezone.now()
        connection.provider_data = {**connection.provider_data, **tokens.provider_data}
        connection.save()
        connection.credential = credential
        if requested_scopes is not None:
            grant.requested_scopes = requested_scopes
        _start(grant, connection)
        kind = "authorized" if is_first else "reauthorized"
        events.record(connection, kind, cause=cause, outcome="succeeded", message=message)
        facts = audit.changed_fields(connection, before) | credential.changes_since(credential_before)
        audit.record(f"connection.{kind}", connection, facts)
    return connection


def begin_anew(connection: ExternalApiConnection) -> None:
    """Follow a change of a connection's tokens or status by hand; call it in the transaction of the change.

    A renewal under way stores nothing any more: what was typed in goes before what the provider answers.
    """
    if connection.external_api.auth_type not in AUTH_TYPES:
        return
    if connection.status in (ConnectionStatus.EXPIRED, ConnectionStatus.REVOKED):
        end(connection, cause="manual")
        return
    _start(_locked(connection), connection)


def end(connection: ExternalApiConnection, *, cause: str, message: str = "") -> None:
    """Renew no more: the connection was revoked, or somebody has declared it expired. In the change's transaction."""
    grant, kind = _locked(connection), str(connection.status)
    if grant.incident != kind:
        events.record(connection, kind, cause=cause, outcome="succeeded", message=message, mail_due=True)
    grant.state, grant.due_at, grant.incident = GrantState.ENDED, None, kind
    _take_from_holder(grant)


def _start(grant: Grant, connection: ExternalApiConnection) -> None:
    now = timezone.now()
    grant.state, grant.failures, grant.incident = GrantState.GOOD, 0, ""
    grant.due_at, grant.renewed_at = _due_at(connection, now), now
    if _rotates(connection) is False:
        grant.rotates = False
    elif grant.rotates is False:
        # Perhaps it had no refresh token until now; whether the provider exchanges this one has to be seen.
        grant.rotates = None
    _take_from_holder(grant)


def _take_from_holder(grant: Grant) -> None:
    grant.fence += 1
    grant.leased_until, grant.lease_holder = None, ""
    grant.save()


def _locked(connection: ExternalApiConnection) -> Grant:
    """The row, made where there is none, locked until the transaction ends."""
    Grant.objects.get_or_create(connection_id=connection.pk, defaults={"tenant_id": connection.tenant_id})
    return Grant.objects.select_for_update().get(pk=connection.pk)


def _due_at(row: ExternalApiConnection, now: datetime) -> datetime | None:
    """When the sweep has to look at it; never for what has no end, or is fetched when it is first used."""
    credential: ExternalApiCredential | None = getattr(row, "credential", None)
    if credential is None or credential.expires_at is None or row.external_api.auth_type not in AUTH_TYPES:
        return None
    if can_be_renewed(row):
        return renewal_time(row.pk, credential.expires_at, now, refresh_margin_seconds(row.external_api))
    return warning_time(credential.expires_at, now)


def _rotates(row: ExternalApiConnection) -> bool | None:
    """False where a lost answer costs nothing, because nothing that is used up was sent; None is not known."""
    credential: ExternalApiCredential | None = getattr(row, "credential", None)
    return None if credential is not None and "refresh_token" in credential.secrets else False
