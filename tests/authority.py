"""Providers whose users consent at the sandbox's authorization server, and a browser that goes there and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from django.conf import settings
from django.test import Client

from connections.models import ExternalApiConnection, OAuthFlow
from external_apis.callbacks import callback_url
from external_apis.models import ExternalApi
from tests.factories import make_provider
from tests.rest import PROVIDERS
from tests.sandbox import Sandbox

SECRET = "client-secret-of-the-tests"
_numbers = itertools.count(1)


@dataclass
class Authority:
    """The sandbox as an authorization server; clients and providers made here have fresh names."""

    sandbox: Sandbox

    @property
    def url(self) -> str:
        return self.sandbox.url

    def register(self, api: ExternalApi, client_id: str, **settings_: Any) -> None:
        """Register what a person would paste at the provider: the exact callback, on both names of this machine."""
        own = callback_url(api)
        uris = [own, own.replace("127.0.0.1", "localhost")]
        self.sandbox.register(
            client_id, **{"client_secret": SECRET, "redirect_uris": uris, "consent": "approve"} | settings_
        )

    def oauth2(self, *, client: dict[str, Any] | None = None, fields: Any = None, **block: Any) -> ExternalApi:
        """A provider whose client is registered with the settings ``client``; its id is the provider's ``provider``."""
        client_id = f"client-of-tests-{next(_numbers)}"
        api = make_provider(
            environment="development",
            provider=client_id,
            api_config={
                "base_url": f"{self.url}/auth/oauth2",
                "auth_type": "oauth2",
                "test_path": "/me",
                "oauth2": {
                    "client_id": client_id,
                    "client_secret": SECRET,
                    "authorization_url": f"{self.url}/oauth/authorize",
                    "token_url": f"{self.url}/oauth/token",
                    "revocation_url": f"{self.url}/oauth/revoke",
                    "scopes": ["read", "write"],
                    **block,
                },
            },
            **(fields or {}),
        )
        self.register(api, client_id, **(client or {}))
        return api

    def oauth1(self, *, client: dict[str, Any] | None = None, **block: Any) -> ExternalApi:
        client_id = f"consumer-of-tests-{next(_numbers)}"
        api = make_provider(
            environment="development",
            provider=client_id,
            api_config={
                "base_url": f"{self.url}/auth/oauth1",
                "auth_type": "oauth1",
                "oauth1": {
                    "consumer_key": client_id,
                    "consumer_secret": SECRET,
                    "request_token_url": f"{self.url}/oauth1/request_token",
                    "authorization_url": f"{self.url}/oauth1/authorize",
                    "access_token_url": f"{self.url}/oauth1/access_token",
                    **block,
                },
            },
        )
        self.register(api, client_id, **(client or {}))
        return api

    def counts(self, api: ExternalApi) -> dict[str, int]:
        return self.sandbox.oauth_counts(api.provider)


def authorize(client: Client, api: ExternalApi, query: str = "", **headers: str) -> str:
    """Begin a flow, and return the provider's address."""
    answer = client.get(f"{PROVIDERS}/{api.pk}/oauth/authorize{query}", headers=headers or None)
    assert answer.status_code == 302, answer.content
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    location: str = answer.headers["Location"]
    return location


def consent(url: str) -> str:
    """Go to the provider, which decides at once, and return the address that it sends the browser to."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, allow_redirects=False, timeout=10)
    assert answer.status_code in (302, 303), (answer.status_code, answer.text)
    return answer.headers["Location"]


def come_back(client: Client, location: str, **headers: str) -> Any:
    """Let the browser follow the provider's redirect, and ours to the page of what has become of it."""
    parts = urlsplit(location)
    answer = client.get(f"{parts.path}?{parts.query}", headers=headers or None)
    return client.get(answer.headers["Location"], headers=headers or None) if answer.status_code == 303 else answer


def hand_over(client: Client, location: str) -> Any:
    """Come back with what a program or terminal began, and press the button of the page that asks for it."""
    asked = client.get(location.partition("127.0.0.1:8000")[2])
    assert asked.status_code == 200, asked.content
    assert b'<form method="post">' in asked.content
    answer = client.post(location.partition("127.0.0.1:8000")[2])
    return client.get(answer.headers["Location"]) if answer.status_code == 303 else answer


def connect(client: Client, api: ExternalApi, query: str = "") -> ExternalApiConnection:
    """Go the whole way, and return what it made."""
    answer = come_back(client, consent(authorize(client, api, query)))
    assert answer.status_code == 200, answer.content
    flow = OAuthFlow.objects.filter(external_api=api).latest("created_at")
    assert flow.made_connection_id
    return ExternalApiConnection.objects.select_related("external_api", "credential", "grant").get(
        pk=flow.made_connection_id
    )


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def public(path: str) -> str:
    return f"{settings.PUBLIC_BASE_URL}{path}"
