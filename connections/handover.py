"""A connection's values in clear, for programs that call its provider themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from connections import lookup, warm
from connections.credentials import ADDITIONAL_DATA
from connections.models import ConnectionStatus, ExternalApiConnection
from connections.oauth.refresh import ensure_fresh, has_to_be_fresh
from connections.opening import check_usable
from external_apis import audit
from external_apis.api_config import ApiConfig
from external_apis.errors import (
    ApiManagerError,
    ConnectionExpired,
    ConnectionUnusable,
    MissingCredential,
    ServiceUnavailable,
)
from external_apis.providers import open_config
from external_apis.tenancy import EVERYTHING, Scope

__all__ = ["HandedOver", "hand_over"]

# Whoever renewed a rotating grant beside us would end it for all.
_KEPT_BACK = frozenset(("refresh_token",))


@dataclass(frozen=True, slots=True, repr=False)
class HandedOver:
    """``values`` are the connection's own, by name. Printed it shows nothing, and it is not pickled."""

    row: ExternalApiConnection
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        return _name(self.row)

    @property
    def auth_type(self) -> str:
        return str(self.row.external_api.auth_type)

    @property
    def token_type(self) -> str:
        return str(self.row.credential.token_type)

    @property
    def expires_at(self) -> datetime | None:
        return self.row.credential.expires_at

    @property
    def scopes(self) -> list[str]:
        return list(self.row.credential.scopes)

    def __repr__(self) -> str:
        return f"<HandedOver {self.row.pk}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Opened credentials are not pickled.")


def hand_over(
    reference: str, scope: Scope = EVERYTHING, *, min_valid_seconds: float = 0, environment: str | None = None
) -> HandedOver:
    """Return the values of a connection (see `lookup.find_in_scope`), once the event of their reading is committed.

    A token with less than ``min_valid_seconds`` left is renewed first (see `ensure_fresh`). They are the connection's
    own: no secret that a provider's connections share, such as an OAuth client's, leaves with one of them, and neither
    does a refresh token. Raises `NotFound`, `Conflict`, `ConnectionUnusable`, `MissingCredential` where nothing is left
    to hand over, `VaultError`, and errors of a call where an ended token is not renewed.
    """
    row, config = _kept(reference, scope) or _found(reference, scope, environment)
    try:
        check_usable(row)
        row = _renewed(row, scope, min_valid_seconds)
    except ConnectionUnusable as error:
        # Whoever keeps a copy under another name learns which one is over.
        error.details["connection_id"] = row.pk
        raise
    # What was stored for an auth type that the provider no longer has is of no use to anybody.
    used = (config.credentials_expected() - _KEPT_BACK) | {ADDITIONAL_DATA}
    values: dict[str, Any] = {name: value for name, value in row.credential.secrets.items() if name in used}
    if not values.keys() - {ADDITIONAL_DATA}:
        raise MissingCredential(f"Connection {_name(row)} has no credentials of its own.")
    if ADDITIONAL_DATA in values:
        values[ADDITIONAL_DATA] = json.loads(values[ADDITIONAL_DATA])
    audit.record_reading("credentials.read", row, values)
    return HandedOver(row, values)


def _kept(reference: str, scope: Scope) -> tuple[ExternalApiConnection, ApiConfig] | None:
    """Return a connection by its id as this process keeps it for calls: at most a second old, and without a query.

    None for whatever does not open, which is looked up to say why. Raises `ServiceUnavailable`, which comes after a
    wait: that is not waited for again.
    """
    try:
        client, row = warm.lend_client(reference, scope)
    except ServiceUnavailable:
        raise
    except ApiManagerError:
        return None
    return row, client.target.config


def _found(reference: str, scope: Scope, environment: str | None) -> tuple[ExternalApiConnection, ApiConfig]:
    row = lookup.find_in_scope(reference, scope, environment)
    return row, open_config(row.external_api).api_config


def _renewed(row: ExternalApiConnection, scope: Scope, min_valid_seconds: float) -> ExternalApiConnection:
    """Return the connection with a token that lives; one whose renewal failed, only while it may be used."""
    found = ensure_fresh(row, min_valid_seconds=min_valid_seconds)
    if found is row and has_to_be_fresh(row, min_valid_seconds=min_valid_seconds):
        found = lookup.find(row.pk, scope)
        check_usable(found)
        if found.status == ConnectionStatus.EXPIRED:
            raise ConnectionExpired("Connection has expired. Please re-authenticate.")
    return found


def _name(row: ExternalApiConnection) -> str:
    return f"{row.external_api.slug}/{row.slug}"
