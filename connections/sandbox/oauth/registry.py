"""The clients that are registered from the start: those of `definitions`."""

from __future__ import annotations

from collections.abc import Sequence

from connections.sandbox import credentials
from connections.sandbox.oauth.clients import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    REFRESH_TOKEN,
    Client,
)

STATIC_OAUTH2, STATIC_OAUTH1 = "sandbox-oauth2", "sandbox-oauth1"
SIGNIN_OAUTH2, SIGNIN_OAUTH1 = "sandbox-signin-oauth2", "sandbox-signin-oauth1"
_BY_CONSENT = [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE]


def provider_id(slug: str) -> str:
    """The fixed id of a seeded provider, which its callback URLs hold."""
    return f"ext_api_{slug.replace('-', '_')}"


def register_built_in(callback_origins: Sequence[str]) -> list[Client]:
    """New clients; ``callback_origins`` are where the product listens, such as ``http://127.0.0.1:8000``."""

    def callbacks(slug: str) -> list[str]:
        paths = (f"/admin/external-apis/{provider_id(slug)}/oauth/callback", f"/api/admin/oauth/{slug}/callback")
        return [origin + path for origin in callback_origins for path in paths]

    return [
        Client(
            credentials.OAUTH2_CLIENT_ID,
            credentials.OAUTH2_CLIENT_SECRET,
            redirect_uris=callbacks(STATIC_OAUTH2),
            grants=_BY_CONSENT,
        ),
        Client(
            credentials.SIGNIN_CLIENT_ID,
            credentials.SIGNIN_CLIENT_SECRET,
            redirect_uris=callbacks(SIGNIN_OAUTH2),
            grants=_BY_CONSENT,
        ),
        Client(credentials.CLIENT_CREDENTIALS_ID, credentials.CLIENT_CREDENTIALS_SECRET, grants=[CLIENT_CREDENTIALS]),
        Client(
            credentials.OAUTH1_CONSUMER_KEY,
            credentials.OAUTH1_CONSUMER_SECRET,
            redirect_uris=callbacks(STATIC_OAUTH1),
            grants=[],
        ),
        Client(
            credentials.SIGNIN_CONSUMER_KEY,
            credentials.SIGNIN_CONSUMER_SECRET,
            redirect_uris=callbacks(SIGNIN_OAUTH1),
            grants=[],
        ),
    ]
