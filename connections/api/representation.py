"""Connections as the management REST shows them: facts about credentials, never a credential."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel

from connections.models import ExternalApiConnection, ExternalApiCredential, Grant
from connections.oauth.scopes import scope_facts
from connections.services import TestOutcome
from external_apis.config_patch import FACTS_SUFFIX
from external_apis.errors import VaultError
from external_apis.json_output import Timestamp, plain, timestamp
from external_apis.provider_output import RowError, row_error


class ConnectionItem(BaseModel):
    """A connection in a list."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    external_api_id: str
    connection_name: str
    slug: str
    status: str
    sales_channel_id: str | None
    partner_id: str | None
    user_id: str | None
    owner_id: str | None
    rotate_by: date | None
    expires_at: Timestamp | None
    """When the access token expires."""
    last_used_at: Timestamp | None
    """Some seconds old, as are the counters."""
    last_sync_at: Timestamp | None
    error_message: str | None
    calls_count: int
    errors_count: int
    authenticated_at: Timestamp
    created_at: Timestamp
    updated_at: Timestamp
    needs_reconsent: bool
    """Whether the provider now asks for more scopes than were granted."""
    error: RowError | None = None
    """Present only where the credentials cannot be opened."""


class ConnectionItems(RootModel[list[ConnectionItem]]):
    """A page of connections."""


class GrantFacts(BaseModel):
    """How a connection's tokens are renewed."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    state: str
    """`good`, `in_doubt`, `needs_reauthorization` or `ended`."""
    next_attempt_at: Timestamp | None
    """When it is renewed, tried again or looked at next; null means never."""
    renewed_at: Timestamp | None
    failures: int
    """Failed attempts in a row."""


class ConnectionDetail(ConnectionItem):
    """A connection with facts about its credentials."""

    grant: GrantFacts | None
    """Null where nothing is renewed."""
    scopes_requested: list[str]
    """Those that were asked for when it was authorised; the granted ones are `credentials.scopes`."""
    scopes_missing: list[str]
    """Those asked for, then or now, that were not granted."""
    credentials: dict[str, Any]
    """`token_type`, `expires_at`, `scopes`; where `name` is stored, `name_encrypted` holds facts about it."""
    provider_data: dict[str, Any]
    note: str
    created_by: str | None
    updated_by: str | None


class TestResult(BaseModel):
    """What 'Test connection' found; `status` is the provider's, null where no answer came."""

    __test__ = False

    ok: bool
    status: int | None
    message: str
    duration_ms: int


def connection_item(row: ExternalApiConnection) -> dict[str, Any]:
    """Describe a connection for a list. Decrypts nothing: only a damaged or foreign seal is noticed."""
    credential = _credential(row)
    fields = _fields(row, credential)
    if credential is None:
        fields["error"] = _MISSING
    else:
        try:
            credential.secret_facts()
        except VaultError as error:
            fields["error"] = row_error(error)
    # As the model would, in a fifth of the time.
    return {name: plain(value) for name, value in fields.items()}


def connection_detail(row: ExternalApiConnection) -> dict[str, Any]:
    """Describe one connection and find out whether its credentials open."""
    credential, scopes = _credential(row), scope_facts(row)
    fields = _fields(row, credential) | {
        "credentials": {},
        "grant": _grant_facts(row),
        "scopes_requested": list(scopes.requested),
        "scopes_missing": list(scopes.missing),
        "provider_data": row.provider_data,
        "note": row.note,
        "created_by": row.created_by,
        "updated_by": row.updated_by,
    }
    if credential is None:
        fields["error"] = _MISSING
    else:
        fields["credentials"] = _plain_facts(credential)
        try:
            facts = credential.secret_facts()
            fields["credentials"] |= {f"{name}{FACTS_SUFFIX}": dict(fact) for name, fact in facts.items()}
            len(credential.secrets)  # opens them
        except VaultError as error:
            fields["error"] = row_error(error)
    return ConnectionDetail.model_construct(**fields).model_dump(mode="json", exclude_unset=True)


def test_result(outcome: TestOutcome) -> dict[str, Any]:
    return {
        "ok": outcome.is_ok,
        "status": outcome.status,
        "message": outcome.message,
        "duration_ms": outcome.duration_ms,
    }


_MISSING = RowError(code="MISSING_CREDENTIAL", message="The connection has no stored credentials.")


def _credential(row: ExternalApiConnection) -> ExternalApiCredential | None:
    credential: ExternalApiCredential | None = getattr(row, "credential", None)
    return credential


def _grant_facts(row: ExternalApiConnection) -> GrantFacts | None:
    grant: Grant | None = getattr(row, "grant", None)
    if grant is None:
        return None
    return GrantFacts(
        state=grant.state, next_attempt_at=grant.due_at, renewed_at=grant.renewed_at, failures=grant.failures
    )


def _plain_facts(credential: ExternalApiCredential) -> dict[str, Any]:
    expires_at = credential.expires_at
    return {
        "token_type": credential.token_type,
        "expires_at": timestamp(expires_at) if expires_at else None,
        "scopes": credential.scopes,
    }


def _fields(row: ExternalApiConnection, credential: ExternalApiCredential | None) -> dict[str, Any]:
    return {
        "id": row.pk,
        "external_api_id": row.external_api_id,
        "connection_name": row.connection_name,
        "slug": row.slug,
        "status": row.status,
        "sales_channel_id": row.tenant_id,
        "partner_id": row.partner_id,
        "user_id": row.user_id,
        "owner_id": row.owner_id,
        "rotate_by": row.rotate_by,
        "expires_at": credential.expires_at if credential else None,
        "last_used_at": row.last_used_at,
        "last_sync_at": row.last_sync_at,
        "error_message": row.error_message,
        "calls_count": row.calls_count,
        "errors_count": row.errors_count,
        "authenticated_at": row.authenticated_at,
        "needs_reconsent": scope_facts(row).needs_reconsent,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
