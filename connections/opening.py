"""Open a connection for use: check that it may be used, decrypt it, give it a client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from django.utils import timezone

from connections.client import Target
from connections.models import ConnectionStatus, ExternalApiConnection
from external_apis.crypto import Secrets
from external_apis.errors import ConnectionExpired, ConnectionInactive, ConnectionRevoked, MissingCredential
from external_apis.models import ExternalApi, ProviderStatus
from external_apis.providers import open_config, require_active

DEFAULT_MARGIN_SECONDS = 300
# The secret without which no token is renewed: the connection's own, or one that all of the provider's share.
_RENEWS = {"oauth2": "refresh_token", "client_credentials": "client_id", "jwt_bearer": "private_key"}


@dataclass(frozen=True)
class DecryptedConnection:
    """A usable connection with its credentials opened. Its ``repr`` shows no secret; it cannot be pickled."""

    row: ExternalApiConnection
    credentials: Secrets

    @property
    def id(self) -> str:
        return self.row.pk

    @property
    def external_api_id(self) -> str:
        return self.row.external_api_id

    @property
    def connection_name(self) -> str:
        return self.row.connection_name

    @property
    def status(self) -> str:
        return self.row.status

    @property
    def provider_data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.row.provider_data
        return data

    @property
    def expires_at(self) -> datetime | None:
        return self.row.credential.expires_at

    @property
    def scopes(self) -> list[str]:
        scopes: list[str] = self.row.credential.scopes
        return scopes

    def __repr__(self) -> str:
        return f"<DecryptedConnection {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An opened connection is not pickled.")


def open_connection(row: ExternalApiConnection) -> DecryptedConnection:
    """Open a loaded row after checking that it may be used; raises as `get_connection` does."""
    check_usable(row)
    return DecryptedConnection(row=row, credentials=row.credential.secrets)


def check_usable(row: ExternalApiConnection) -> None:
    """Raise `ConnectionInactive`, `ConnectionRevoked` or `ConnectionExpired` for a row that may not be used now."""
    require_active(row.tenant)
    if row.external_api.status == ProviderStatus.INACTIVE:
        raise ConnectionInactive(f"External API {row.external_api.slug} is inactive.")
    if row.status == ConnectionStatus.REVOKED:
        raise ConnectionRevoked("Connection has been revoked. Please re-authenticate.")
    credential = getattr(row, "credential", None)
    if credential is None:
        raise MissingCredential("The connection has no stored credentials.")
    expires_at = credential.expires_at
    has_expired = row.status == ConnectionStatus.EXPIRED or (expires_at is not None and expires_at < timezone.now())
    if has_expired and not can_be_renewed(row):
        raise ConnectionExpired("Connection has expired. Please re-authenticate.")


def target_of(connection: DecryptedConnection) -> Target:
    """Return what a client needs to know of an opened connection."""
    api = connection.row.external_api
    return Target(
        provider_id=api.pk,
        provider_slug=api.slug,
        connection_id=connection.id,
        connection_slug=connection.row.slug,
        config=open_config(api).api_config,
        credentials=connection.credentials,
        provider_data=connection.provider_data,
    )


def can_be_renewed(row: ExternalApiConnection) -> bool:
    """Tell whether there is something to get another access token with. Raises `VaultError` where nothing opens."""
    api = row.external_api
    own = _RENEWS.get(api.auth_type)
    return own is not None and (own in row.credential.secrets or f"{api.auth_type}.{own}" in api.fingerprints)


def rotates_refresh_tokens(api: ExternalApi) -> bool | None:
    """Return what a provider's configuration says of its refresh tokens; None where that has to be seen."""
    block = api.api_config.get("oauth2")
    said = block.get("rotates_refresh_tokens") if isinstance(block, dict) else None
    return said if isinstance(said, bool) else None


def refresh_margin_seconds(api: ExternalApi) -> float:
    """Return how long before its end a provider's access token is renewed."""
    block = api.api_config.get(api.auth_type)
    seconds = block.get("refresh_margin_seconds", DEFAULT_MARGIN_SECONDS) if isinstance(block, dict) else None
    return float(DEFAULT_MARGIN_SECONDS if seconds is None else seconds)
