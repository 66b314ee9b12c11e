"""Stores many new connections at once: a fixed number of queries however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from connections.models import ExternalApiConnection, ExternalApiCredential
from connections.oauth import grants
from external_apis import audit, bulk_insert, changes, request_context
from external_apis.models import AuditEvent
from external_apis.models.secret_bearing import secrets_field
from external_apis.oauth_config import RENEWED

__all__ = ["store"]


def store(connections: Sequence[ExternalApiConnection]) -> None:
    """Insert connections with the credentials that hang on them, their grants, histories and audit events.

    What `create_connection` checks has been checked. Call it in the transaction of the batch. Raises Django's
    `IntegrityError` where a slug has been taken meanwhile: then nothing was stored.
    """
    if not connections:
        return
    context = request_context.current()
    credentials = [connection.credential for connection in connections]
    field = secrets_field(ExternalApiCredential)
    for owner in {credential.tenant_id: credential for credential in credentials}.values():
        field.hold_writing_key(owner)
    for connection, credential in zip(connections, credentials, strict=True):
        connection.created_by = connection.updated_by = context.actor or None
        credential.describe_secrets()
    _insert_with_history(connections)
    _insert_with_history(credentials)
    renewed = [connection for connection in connections if connection.external_api.auth_type in RENEWED]
    bulk_insert.insert([grants.build(connection) for connection in renewed])
    audit.store([_event(connection) for connection in connections])
    changes.announce({connection.external_api_id for connection in connections})


def _insert_with_history(rows: Sequence[ExternalApiConnection] | Sequence[ExternalApiCredential]) -> None:
    values = [bulk_insert.values_of(row) for row in rows]
    bulk_insert.insert_values(type(rows[0]), values)
    for row in rows:
        row._state.adding = False
    context, model = request_context.current(), type(rows[0]).history.model
    about = {
        "history_date": timezone.now().isoformat(),
        "history_type": "+",
        "history_user_id": context.user_id,
        "actor": context.actor,
        "request_id": context.request_id,
        "address": context.address,
    }
    columns = {field.column for field in model._meta.concrete_fields}
    tracked = [{name: value for name, value in row.items() if name in columns} | about for row in values]
    bulk_insert.insert_values(model, tracked)


def _event(row: ExternalApiConnection) -> AuditEvent:
    facts = audit.changed_fields(row) | row.credential.changes_since(None)
    kind = ExternalApiConnection._meta.model_name or ""
    return audit.build("connection.created", kind, row.pk, facts, tenant_id=row.tenant_id)
