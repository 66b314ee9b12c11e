"""Connections whose tokens are renewed at a `TokenServer`, and what is stored of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from connections.models import ExternalApiConnection, Grant, GrantEvent
from tests.factories import make_connection, make_provider
from tests.token_server import TokenServer


def oauth2_config(url: str, **more: Any) -> dict[str, Any]:
    block = {
        "client_id": "client",
        "client_secret": "client-secret-of-the-tests",
        "authorization_url": f"{url}/authorize",
        "token_url": f"{url}/token",
        **more,
    }
    return {"base_url": url, "auth_type": "oauth2", "oauth2": block}


def make_granted(server: TokenServer, *, expires_in: float | None = 60, **fields: Any) -> ExternalApiConnection:
    """A connection with a refresh token of a family of its own; by default its access token is due."""
    expires_at = None if expires_in is None else timezone.now() + timedelta(seconds=expires_in)
    credentials = {"access_token": "at-old", "refresh_token": server.new_refresh_token(), "expires_at": expires_at}
    credentials |= fields.pop("credentials", {})
    credentials = {name: value for name, value in credentials.items() if value is not None}
    api = fields.pop("api", None) or make_provider(
        environment="development", api_config=oauth2_config(server.url, **fields.pop("oauth2", {}))
    )
    row = make_connection(api, credentials=credentials, **fields)
    if expires_in is not None and expires_in <= 60:
        Grant.objects.filter(pk=row.pk).update(due_at=timezone.now())
    return row


def grant_of(row: ExternalApiConnection) -> Grant:
    return Grant.objects.get(pk=row.pk)


def stored(row: ExternalApiConnection) -> ExternalApiConnection:
    """The connection as the database has it now."""
    return ExternalApiConnection.objects.select_related("external_api", "credential", "tenant", "grant").get(pk=row.pk)


def kinds(row: ExternalApiConnection) -> list[str]:
    """The kinds of its events, the oldest first."""
    return list(GrantEvent.objects.filter(connection=row).order_by("pk").values_list("kind", flat=True))


def secrets_of(row: ExternalApiConnection) -> dict[str, str]:
    return dict(stored(row).credential.secrets)
