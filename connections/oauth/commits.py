"""Stores how leases ended: a fixed number of queries however many there are, and nothing for a lease that was lost.

A settlement is stored while its number is the row's and the lease is not ended. New tokens raise ``stored_fence`` to
that number, in the same transaction; those of a lost lease are for `late`. The connection's row is locked first, as
edits, revocations and late answers do, so that none of them waits for another in a circle.

The audit log's events are part of it. Where they cannot be written nothing is stored, and new tokens stay in the spool
until they and their events can be (see `recovery`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from typing import Any

from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential, Grant
from connections.oauth import events, write_backs
from connections.oauth.settlement import Settlement
from connections.oauth.tokens import Tokens
from external_apis import audit, changes, request_context
from external_apis.models import AuditEvent
from external_apis.models.secret_bearing import secrets_field

__all__ = ["commit", "put_tokens"]

_GRANTS = f"""
UPDATE {Grant._meta.db_table} AS row
SET state = new.state, due_at = new.due_at, failures = new.failures, rotates = new.rotates,
    renewed_at = new.renewed_at, incident = new.incident, failing_since = new.failing_since,
    stored_fence = CASE WHEN new.has_tokens THEN new.fence ELSE row.stored_fence END,
    leased_until = NULL, lease_holder = ''
FROM unnest(
    %s::text[], %s::bigint[], %s::text[], %s::timestamptz[], %s::int[], %s::bool[], %s::timestamptz[], %s::text[],
    %s::timestamptz[], %s::bool[]
) AS new (id, fence, state, due_at, failures, rotates, renewed_at, incident, failing_since, has_tokens)
WHERE row.connection_id = new.id AND row.fence = new.fence AND row.leased_until IS NOT NULL
RETURNING row.connection_id
"""  # noqa: S608 (our own table's name)

_LOCKS = f"""
SELECT FROM {ExternalApiConnection._meta.db_table} WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE
"""

_CREDENTIALS = f"""
UPDATE {ExternalApiCredential._meta.db_table} AS row
SET secrets = new.secrets, secret_fingerprints = new.fingerprints::jsonb, secret_hints = new.hints::jsonb,
    token_type = new.token_type, expires_at = new.expires_at, scopes = new.scopes::jsonb, updated_at = new.updated_at
FROM unnest(
    %s::text[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::timestamptz[]
) AS new (id, secrets, fingerprints, hints, token_type, expires_at, scopes, updated_at)
WHERE row.connection_id = new.id
"""  # noqa: S608


def commit(settlements: Sequence[Settlement], cause: str) -> frozenset[str]:
    """Store settlements in one transaction; return the connections whose lease still stood, the others are left alone.

    Raises Django's database errors: then nothing was stored.
    """
    with transaction.atomic():
        held = _store_grants(settlements)
        mine = [item for item in settlements if item.lease.connection_id in held]
        renewed = {item.lease.connection_id: item.tokens for item in mine if item.tokens is not None}
        credentials, told = _store_tokens(renewed)
        audit.store(told + _store_connections(mine))
        events.store(
            [
                events.build(
                    item.lease.connection_id,
                    item.lease.tenant_id,
                    item.kind,
                    cause=cause,
                    outcome=item.outcome,
                    message=item.message,
                    mail_due=item.mail_due,
                )
                for item in mine
                if item.kind
            ]
        )
        _keep_history(credentials)
        if renewed:
            write_backs.note(renewed)
        changes.announce(renewed.keys() | {item.lease.connection_id for item in mine if item.status is not None})
    return held


def put_tokens(credential: ExternalApiCredential, tokens: Tokens) -> None:
    """Put new tokens into a credential that is not saved yet. What the answer does not name stays as it was."""
    credential.secrets = credential.secrets.merged(tokens.credentials())
    credential.token_type = tokens.token_type or credential.token_type
    credential.expires_at = tokens.expires_at
    if tokens.scopes is not None:
        credential.scopes = list(tokens.scopes)


def _store_grants(settlements: Sequence[Settlement]) -> frozenset[str]:
    rows = [
        (
            item.lease.connection_id,
            item.lease.fence,
            str(item.state),
            item.due_at,
            item.failures,
            item.rotates,
            item.renewed_at,
            item.incident,
            item.failing_since,
            item.tokens is not None,
        )
        for item in settlements
    ]
    with database.cursor() as cursor:
        cursor.execute(_LOCKS, [[item.lease.connection_id for item in settlements]])
        cursor.execute(_GRANTS, _columns(rows))
        return frozenset(name for (name,) in cursor.fetchall())


def _store_tokens(renewed: dict[str, Tokens]) -> tuple[list[ExternalApiCredential], list[AuditEvent]]:
    """Read again under a lock: somebody may have changed another secret of the row while the provider was asked.

    Returns what is stored now, and the events that tell of it.
    """
    if not renewed:
        return [], []
    field = secrets_field(ExternalApiCredential)
    locked = ExternalApiCredential.objects.select_for_update().filter(pk__in=renewed).order_by("pk")
    credentials, rows, told, now = list(locked), [], [], timezone.now()
    for tenant_id, owner in {credential.tenant_id: credential for credential in credentials}.items():
        if tenant_id is not None:
            field.hold_writing_key(owner)
    for credential in credentials:
        before = copy(credential)
        put_tokens(credential, renewed[credential.pk])
        credential.updated_at = now
        credential.describe_secrets()
        told.append(_event("refreshed", credential.pk, credential.tenant_id, credential.changes_since(before)))
        rows.append(
            (
                credential.pk,
                bytes(field.pre_save(credential, add=False)),
                json.dumps(credential.secret_fingerprints),
                json.dumps(credential.secret_hints),
                credential.token_type,
                credential.expires_at,
                json.dumps(credential.scopes),
                now,
            )
        )
    if rows:
        with database.cursor() as cursor:
            cursor.execute(_CREDENTIALS, _columns(rows))
    return credentials, told


def _store_connections(settlements: Sequence[Settlement]) -> list[AuditEvent]:
    """Store what changes about connections themselves, which is seldom: a status, and facts that came with tokens.

    Returns the events that tell of it.
    """
    changed = {
        item.lease.connection_id: item
        for item in settlements
        if item.status is not None or (item.tokens is not None and item.tokens.provider_data)
    }
    if not changed:
        return []
    rows = ExternalApiConnection.objects.select_for_update().filter(pk__in=changed, deleted_at=None).order_by("pk")
    touched, told = [], []
    for row in rows:
        item = changed[row.pk]
        before, error_message = copy(row), row.error_message
        if item.tokens is not None and item.tokens.provider_data:
            row.provider_data = {**row.provider_data, **item.tokens.provider_data}
        if item.status is not None and row.status != ConnectionStatus.REVOKED:
            row.status, error_message = str(item.status), item.error_message
        if facts := audit.changed_fields(row, before):
            touched.append(row)
            verb = "updated" if row.status == before.status else _VERBS[ConnectionStatus(row.status)]
            told.append(_event(verb, row.pk, row.tenant_id, facts))
        row.error_message = error_message  # an observation that comes and goes, and no change
        row.updated_at = timezone.now()
    ExternalApiConnection.objects.bulk_update(rows, ["status", "error_message", "provider_data", "updated_at"])
    ExternalApiConnection.history.bulk_history_create(touched, update=True, custom_historical_attrs=_context())
    return told


def _keep_history(credentials: list[ExternalApiCredential]) -> None:
    if credentials:
        ExternalApiCredential.history.bulk_history_create(credentials, update=True, custom_historical_attrs=_context())


def _event(verb: str, connection_id: str, tenant_id: str | None, facts: dict[str, list[Any]]) -> AuditEvent:
    kind = ExternalApiConnection._meta.model_name or ""
    return audit.build(f"connection.{verb}", kind, connection_id, facts, tenant_id=tenant_id)


def _context() -> dict[str, Any]:
    context = request_context.current()
    return {"actor": context.actor, "request_id": context.request_id, "address": context.address}


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


_VERBS = {
    ConnectionStatus.ACTIVE: "restored",
    ConnectionStatus.EXPIRED: "expired",
    ConnectionStatus.ERROR: "failed",
}
