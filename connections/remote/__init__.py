"""The client for other services: it needs requests, and neither Django nor the server's settings.

    from connections.remote import get_api_client, get_secret

    stripe = get_api_client("stripe/default")            # EAM_URL and EAM_KEY, or base_url=… and key=…
    stripe.get("/customers", {"limit": 3}).json()
    SENDGRID_API_KEY = get_secret("sendgrid/default")

Calls go through the gateway (a key with the scope ``proxy``); values are read in clear (``credentials:read``).
"""

from __future__ import annotations

from connections.remote.client import RemoteClient
from connections.remote.reading import pick, read_secrets
from connections.remote.sealed_copy import SealedCopy
from connections.remote.server import Server

__all__ = ["RemoteClient", "SealedCopy", "Server", "get_api_client", "get_secret"]


def get_api_client(
    reference: str,
    *,
    base_url: str | None = None,
    key: str | None = None,
    environment: str | None = None,
    server: Server | None = None,
) -> RemoteClient:
    """Return a client that calls a provider through a connection; it asks nobody before its first call.

    ``server`` shares one way to the server among clients. Raises `InvalidInput` for a server or key that is none.
    """
    return RemoteClient(server or Server(base_url, key), reference, environment=environment)


def get_secret(
    reference: str,
    name: str | None = None,
    *,
    base_url: str | None = None,
    key: str | None = None,
    environment: str | None = None,
    min_valid_seconds: int = 60,
    copy: SealedCopy | None = None,
    stale_if_error_seconds: float = 3600.0,
    timeout_seconds: float | None = None,
    server: Server | None = None,
) -> str:
    """Return a value of a connection, by its name where there are several; raises as `reading.read_secrets` does."""
    asked = (reference, min_valid_seconds, environment, copy, stale_if_error_seconds, timeout_seconds)
    if server is not None:
        return pick(read_secrets(server, *asked).values, name)
    with Server(base_url, key) as own:
        return pick(read_secrets(own, *asked).values, name)
