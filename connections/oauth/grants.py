"""The row that says how a connection's tokens are renewed: made with them, begun anew when others are stored.

A renewal under way uses up the stored refresh token, so what it is answered may be the grant's only living tokens. It
is superseded by another refresh token and by the end of the grant, and by nothing else: an edit that leaves the refresh
token as it is leaves a lease, and what its holder will store, alone.
"""

from __future__ import annotations

from copy import copy
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential, Grant, GrantState
from connections.oauth import events, write_backs
from connections.oauth.commits import put_tokens
from connections.oauth.due import renewal_time, warning_time
from connections.oauth.tokens import Tokens
from connections.opening import can_be_renewed, refresh_margin_seconds, rotates_refresh_tokens
from external_apis import audit
from external_apis.errors import VaultError
from external_apis.oauth_config import RENEWED

__all__ = ["begin_anew", "build", "end", "of", "store_tokens"]


def of(row: ExternalApiConnection) -> Grant:
    """Return a connection's grant, made where there is none yet."""
    grant: Grant | None = getattr(row, "grant", None)
    if grant is None:
        defaults = {"tenant_id": row.tenant_id, "due_at": _due_at(row, timezone.now()), "rotates": _rotates(row)}
        grant = Grant.objects.get_or_create(connection_id=row.pk, defaults=defaults)[0]
    return grant


def build(connection: ExternalApiConnection) -> Grant:
    """Return the grant of a new connection, not stored yet, for whoever stores many; its credential hangs on it.

    One that is expired or revoked as it comes is nobody's news and renewed no more.
    """
    grant = Grant(connection=connection, tenant_id=connection.tenant_id)
    if connection.status in (ConnectionStatus.EXPIRED, ConnectionStatus.REVOKED):
        grant.state, grant.incident = GrantState.ENDED, str(connection.status)
    else:
        grant.due_at, grant.rotates = _due_at(connection, timezone.now()), _rotates(connection)
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

    The connection becomes active, whatever was doubtful is over, and a renewal under way of another refresh token
    stores nothing any more. An answer without refresh token keeps the old one of a grant that is good. ``cause`` is
    ``callback``, ``device_code`` or the like; the actor is that of the request. Returns the connection, saved.
    """
    with transaction.atomic():
        ExternalApiConnection.objects.select_for_update(no_key=True).filter(pk=connection.pk).values_list("pk").first()
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
        is_replaced = credential_before is None or _differ(credential_before, credential)
        connection.status, connection.error_message = ConnectionStatus.ACTIVE, None
        connection.authenticated_at = timezone.now()
        connection.provider_data = {**connection.provider_data, **tokens.provider_data}
        connection.save()
        connection.credential = credential
        if requested_scopes is not None:
            grant.requested_scopes = requested_scopes
        _start(grant, connection, is_replaced=is_replaced)
        grant.save()
        if not is_first:
            write_backs.note([connection.pk])
        kind = "authorized" if is_first else "reauthorized"
        events.record(connection, kind, cause=cause, outcome="succeeded", message=message)
        facts = audit.changed_fields(connection, before) | credential.changes_since(credential_before)
        audit.record(f"connection.{kind}", connection, facts)
    return connection


def begin_anew(connection: ExternalApiConnection, credential_before: ExternalApiCredential | None = None) -> None:
    """Follow a change of a connection's tokens or status by hand; call it in the transaction of the change.

    ``credential_before`` is a copy of the credential, where that was changed. Another refresh token goes before what
    the provider answers to a renewal under way; whatever else was typed in does not.
    """
    if connection.external_api.auth_type not in RENEWED:
        return
    if connection.status in (ConnectionStatus.EXPIRED, ConnectionStatus.REVOKED):
        end(connection, cause="manual")
        return
    grant, credential = _locked(connection), getattr(connection, "credential", None)
    is_replaced = credential_before is not None and credential is not None and _differ(credential_before, credential)
    _start(grant, connection, is_replaced=is_replaced)
    grant.save()
    if credential_before is not None:
        write_backs.note([connection.pk])


def end(connection: ExternalApiConnection, *, cause: str, message: str = "") -> None:
    """Renew no more: the connection was revoked, or somebody has declared it expired. In the change's transaction."""
    grant, kind = _locked(connection), str(connection.status)
    if grant.incident != kind:
        events.record(connection, kind, cause=cause, outcome="succeeded", message=message, mail_due=True)
    grant.state, grant.due_at, grant.incident = GrantState.ENDED, None, kind
    _take_from_holder(grant)
    grant.save()


def _start(grant: Grant, connection: ExternalApiConnection, *, is_replaced: bool) -> None:
    if is_replaced:
        _take_from_holder(grant)
        grant.stored_fence = grant.fence
    elif grant.leased_until is not None:
        # Whoever has it, or finds it left behind, says how it goes on.
        return
    now = timezone.now()
    if is_replaced or grant.state != GrantState.IN_DOUBT:
        grant.state, grant.incident = GrantState.GOOD, ""
    grant.failures, grant.failing_since = 0, None
    grant.due_at, grant.renewed_at = _due_at(connection, now), now
    if _rotates(connection) is False:
        grant.rotates = False
    elif grant.rotates is False:
        # Perhaps it had no refresh token until now; whether the provider exchanges this one has to be seen.
        grant.rotates = _rotates(connection)


def _take_from_holder(grant: Grant) -> None:
    grant.fence += 1
    grant.leased_until, grant.lease_holder = None, ""


def _differ(before: ExternalApiCredential, after: ExternalApiCredential) -> bool:
    """Whether what a renewal would use up, or else bring, is another one. What does not open any more is none."""
    try:
        was, now = before.secrets, after.secrets
    except VaultError:
        return True
    name = "refresh_token" if "refresh_token" in was or "refresh_token" in now else "access_token"
    return bool(was.get(name) != now.get(name))


def _locked(connection: ExternalApiConnection) -> Grant:
    """The row, made where there is none, locked until the transaction ends."""
    Grant.objects.get_or_create(connection_id=connection.pk, defaults={"tenant_id": connection.tenant_id})
    return Grant.objects.select_for_update().get(pk=connection.pk)


def _due_at(row: ExternalApiConnection, now: datetime) -> datetime | None:
    """When the sweep has to look at it; never for what has no end, or is fetched when it is first used."""
    credential: ExternalApiCredential | None = getattr(row, "credential", None)
    if credential is None or credential.expires_at is None or row.external_api.auth_type not in RENEWED:
        return None
    if can_be_renewed(row):
        return renewal_time(row.pk, credential.expires_at, now, refresh_margin_seconds(row.external_api))
    return warning_time(credential.expires_at, now)


def _rotates(row: ExternalApiConnection) -> bool | None:
    """False where a lost answer costs nothing, because nothing that is used up was sent; None is not known."""
    credential: ExternalApiCredential | None = getattr(row, "credential", None)
    is_used_up = credential is not None and "refresh_token" in credential.secrets
    return rotates_refresh_tokens(row.external_api) if is_used_up else False
