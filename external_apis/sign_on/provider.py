"""The organisation's OpenID provider, spoken to by social-core over our guarded transport."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from social_core.backends.open_id_connect import OpenIdConnectAuth
from social_core.exceptions import SocialAuthBaseException
from social_core.utils import http_error
from social_django.models import DjangoStorage
from social_django.strategy import DjangoStrategy

from external_apis.database_connections import give_back_database_connections
from external_apis.discovery import Metadata, discover
from external_apis.egress import Allowance, Policy, current_policy
from external_apis.errors import BadAnswer, NotAuthenticated
from external_apis.sign_on.claims import merged
from external_apis.transport import GuardedSession

__all__ = ["StaffProvider", "provider_for"]

_TIMEOUT_SECONDS = 10.0


class StaffProvider(OpenIdConnectAuth[Any]):
    """One sign-in: state and nonce are single-use and bound to the browser's session; PKCE is always on.

    Nothing is kept between sign-ins, which are rare: a rotated key or a moved endpoint counts at once.
    """

    name = "oidc"
    DEFAULT_USE_PKCE = True
    # Nothing in which our knowing the key would let us, or anybody, sign.
    JWT_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384"]  # noqa: RUF012 (social-core's)

    @cached_property
    def metadata(self) -> Metadata:
        return discover(settings.OIDC_ISSUER, _policy())

    def oidc_config(self) -> dict[str, Any]:
        return dict(self.metadata.document)

    def id_token_issuer(self) -> str:
        return self.metadata.issuer

    def get_key_and_secret(self) -> tuple[str, str]:
        return settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET

    def get_scope(self) -> list[str]:
        return ["openid", "profile", "email", *settings.OIDC_EXTRA_SCOPES]

    def use_basic_auth(self) -> bool:
        """A public client has nothing to prove itself with, and names itself in the body."""
        return bool(settings.OIDC_CLIENT_SECRET) and super().use_basic_auth()

    def auth_complete_params(self, state: str | None = None) -> dict[str, Any]:
        params: dict[str, Any] = super().auth_complete_params(state)  # type: ignore[no-untyped-call]
        return {name: value for name, value in params.items() if name != "client_secret" or value}

    def get_jwks_keys(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = self.get_remote_jwks_keys(self.jwks_uri())
        return keys

    def user_data(self, access_token: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What the user-info endpoint says, where there is one; its subject has to be the ID token's."""
        if not self.metadata.text("userinfo_endpoint"):
            return {}
        told = super().user_data(access_token, *args, **kwargs)
        return told if isinstance(told, dict) and told.get("sub") == (self.id_token or {}).get("sub") else {}

    def do_auth(self, access_token: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the person's claims, the signed ID token's first, instead of entering social-core's pipeline."""
        return merged(self.user_data(access_token), self.id_token or {})

    def claims(self) -> tuple[dict[str, Any], str]:
        """Finish the sign-in of the current request; return the verified claims and the ID token.

        Raises `NotAuthenticated` for a forged, replayed or foreign answer, and the transport's errors.
        """
        self._check_issuer()
        try:
            claims: Any = self.auth_complete()
        except SocialAuthBaseException as error:
            raise NotAuthenticated(f"The sign-in was not completed ({_reason(error)}).") from None
        return claims, self._received

    _received = ""

    def request_access_token(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        answer: dict[Any, Any] = super().request_access_token(*args, **kwargs)
        self._received = answer["id_token"]
        return answer

    def request(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Any = None,
        data: Any = None,
        json: Any = None,
        auth: Any = None,
        params: Any = None,
        timeout: float | None = None,
        stage: Any = "user_info",
    ) -> requests.Response:
        give_back_database_connections()
        with GuardedSession(_policy()) as session:
            response = session.request(
                method, url, headers=headers, data=data, json=json, auth=auth, params=params, timeout=_TIMEOUT_SECONDS
            )
        if response.is_redirect:
            raise BadAnswer("The sign-in provider redirects where it should answer.")
        try:
            response.raise_for_status()
        except requests.HTTPError as error:
            raise http_error(self, error, stage=stage) from error
        return response

    def _check_issuer(self) -> None:
        """The answer names its issuer where the provider promises to (RFC 9207): no other provider's is taken."""
        promised = self.metadata.document.get("authorization_response_iss_parameter_supported") is True
        named = self.data.get("iss")
        if (promised or named is not None) and named != self.metadata.issuer:
            raise NotAuthenticated("The sign-in was not completed (the answer is of another provider).")


def provider_for(request: HttpRequest) -> StaffProvider:
    """Return the provider for a sign-in in this request's session."""
    callback = settings.PUBLIC_BASE_URL + reverse("sign_on:complete")
    return StaffProvider(DjangoStrategy(DjangoStorage, request), callback)


def _policy() -> Policy:
    """The issuer's host may be reached, since the operator has named it."""
    policy = current_policy()
    return replace(policy, allow=(*policy.allow, Allowance.parse(urlsplit(settings.OIDC_ISSUER).netloc)))


def _reason(error: SocialAuthBaseException) -> str:
    """A word of social-core's own: its messages may quote what the provider has sent."""
    return str(getattr(error, "code", "") or type(error).__name__).replace("_", " ")
