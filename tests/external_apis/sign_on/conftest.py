"""Staff who sign in at a real provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as configured
from django.test import Client

from tests.oidc_provider import OidcProvider, RegisteredClient

CALLBACK = "/admin/sign-on/complete"


@dataclass
class SignOn:
    """What happens between a browser, us and the provider."""

    provider: OidcProvider
    registered: RegisteredClient
    browser: Client = field(default_factory=Client)

    def begin(self, path: str = "/admin/sign-on") -> str:
        answer = self.browser.get(path)
        assert answer.status_code == 302, answer.content
        return str(answer["Location"])

    def answer(self, username: str, path: str = "/admin/sign-on") -> str:
        """The path and query with which the provider sends the browser back."""
        parts = urlsplit(self.provider.sign_in(self.begin(path), username))
        assert f"{parts.scheme}://{parts.netloc}" == configured.PUBLIC_BASE_URL
        return f"{parts.path}?{parts.query}"

    def sign_in(self, username: str, path: str = "/admin/sign-on") -> Any:
        return self.browser.get(self.answer(username, path))

    @property
    def is_in(self) -> bool:
        return self.browser.get("/admin/").status_code == 200


@pytest.fixture
def sign_on(oidc_provider: OidcProvider, settings: Any) -> Callable[..., SignOn]:
    """Make a client of the provider, and settings that name it; keyword arguments are further settings."""

    def make(*, public: bool = False, algorithm: str = "RS256", **more: Any) -> SignOn:
        client = oidc_provider.register(
            [f"{settings.PUBLIC_BASE_URL}{CALLBACK}"],
            public=public,
            algorithm=algorithm,
            logout_uris=[f"{settings.PUBLIC_BASE_URL}/admin/login/"],
        )
        named = {
            "OIDC_ISSUER": oidc_provider.issuer,
            "OIDC_CLIENT_ID": client.client_id,
            "OIDC_CLIENT_SECRET": client.client_secret,
            "OIDC_STAFF_CLAIM": "groups",
            "OIDC_STAFF_VALUE": "staff",
            **more,
        }
        for name, value in named.items():
            setattr(settings, name, value)
        return SignOn(oidc_provider, client)

    return make
