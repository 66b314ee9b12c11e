"""The front door (seed 000's service layer): what a developer imports to store, open and use connections."""

from __future__ import annotations

from connections import lookup, warm
from connections.client import ApiClient
from connections.editing import create_connection, delete_connection, restore_connection, update_connection
from connections.env_secrets import get_env_secret
from connections.oauth.refresh import ensure_fresh, refresh_token
from connections.opening import DecryptedConnection, check_usable, open_connection
from connections.probe import TestOutcome, test_connection
from external_apis.providers import create_external_api, get_api_config

__all__ = [
    "DecryptedConnection",
    "TestOutcome",
    "create_connection",
    "create_external_api",
    "delete_connection",
    "get_api_client",
    "get_api_config",
    "get_connection",
    "get_env_secret",
    "refresh_token",
    "restore_connection",
    "test_connection",
    "update_connection",
]


def get_connection(
    reference: str,
    *,
    environment: str | None = None,
    tenant: str | None = None,
    partner: str | None = None,
    user: str | None = None,
) -> DecryptedConnection:
    """Return a usable connection with its credentials opened (see `lookup.find_by_reference` for references).

    A token near its end is renewed first; while that fails for the moment, one that still lives is returned. Raises
    `NotFound`, `ConnectionRevoked`, `ConnectionInactive`, `ConnectionExpired`, `TokenEndpointFailed` and other errors
    of a call where an ended token is not renewed, and `VaultError` where the credentials do not open.
    """
    row = lookup.find_by_reference(reference, environment=environment, tenant=tenant, partner=partner, user=user)
    check_usable(row)
    return open_connection(ensure_fresh(row))


def get_api_client(
    reference: str,
    *,
    environment: str | None = None,
    tenant: str | None = None,
    partner: str | None = None,
    user: str | None = None,
) -> ApiClient:
    """Return a client that calls the provider through a connection; raises as `get_connection` does.

    A token near its end is renewed first, and one that the API refuses is replaced once for a call. Asked again, it
    reads nothing from the database, and still sees every change within a second (see `warm`).
    """
    return warm.open_client(reference, environment, tenant, partner, user)
