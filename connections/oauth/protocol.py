"""Renewing tokens: the right grant for each auth type, as one call that stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from urllib3.util import parse_url

from connections.oauth.answers import read_answer, read_tokens
from connections.oauth.assertions import make_assertion
from connections.oauth.backends import Client, ProviderOAuth2
from connections.oauth.exchange import post
from connections.oauth.strategy import AttemptStrategy
from connections.oauth.tokens import Tokens
from external_apis.api_config import (
    ApiConfig,
    ClientCredentialsConfig,
    JwtBearerConfig,
    OAuth2Config,
    url_values,
)
from external_apis.errors import InvalidInput
from external_apis.url_variables import fill_url

if TYPE_CHECKING:
    from external_apis.oauth_config import ClientCredentials, JwtBearer, OAuth2

__all__ = ["Tokens", "block_of", "endpoint_of", "renew"]

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_URL_NAME = "The token endpoint"


def renew(
    config: ApiConfig,
    credentials: Mapping[str, str],
    provider_data: Mapping[str, Any],
    *,
    deadline: float,
    clock: Callable[[], datetime] = timezone.now,
) -> Tokens:
    """Ask the token endpoint for the next tokens, and give what it answered.

    OAuth 2.0 sends the refresh token, client credentials and JWT bearer fetch afresh. ``deadline`` is on the clock of
    `time.monotonic` and bounds the whole exchange. An answer without a refresh token gives `Tokens` without one, and
    whoever stores them keeps the old one.

    Raises `GrantRefused` for a definite no, `TokenEndpointFailed` where no usable answer came, `MissingCredential`
    where something is missing to ask with, `InvalidInput` with the seed's messages where there is nothing to renew, or
    where a URL variable is missing.
    """
    variables = url_values(config, provider_data)
    if isinstance(config, OAuth2Config):
        return _refresh(config.oauth2, variables, credentials, deadline, clock)
    if isinstance(config, ClientCredentialsConfig):
        return _fetch(config.client_credentials, variables, credentials, deadline, clock)
    if isinstance(config, JwtBearerConfig):
        return _exchange_assertion(config.jwt_bearer, variables, credentials, deadline, clock)
    raise InvalidInput("Token refresh only supported for OAuth 2.0")


def block_of(config: ApiConfig) -> OAuth2 | ClientCredentials | JwtBearer | None:
    """Return the block of an auth type whose tokens are renewed, None for the others."""
    if isinstance(config, OAuth2Config):
        return config.oauth2
    if isinstance(config, ClientCredentialsConfig):
        return config.client_credentials
    return config.jwt_bearer if isinstance(config, JwtBearerConfig) else None


def endpoint_of(config: ApiConfig, provider_data: Mapping[str, Any]) -> str:
    """Return the host that a renewal asks, empty where there is none. Raises `InvalidInput` for a missing variable."""
    block = block_of(config)
    if block is None:
        return ""
    url = getattr(block, "refresh_url", None) or block.token_url
    return parse_url(fill_url(url, url_values(config, provider_data))).netloc or ""


def _refresh(
    block: OAuth2,
    variables: Mapping[str, str],
    credentials: Mapping[str, str],
    deadline: float,
    clock: Callable[[], datetime],
) -> Tokens:
    refresh_token = credentials.get("refresh_token")
    if not refresh_token:
        raise InvalidInput("No refresh token available")
    now = clock()
    client = Client(block, variables, deadline=deadline)
    backend = ProviderOAuth2(client, AttemptStrategy(), "", now)
    return read_tokens(backend.refresh_token(refresh_token), block, _URL_NAME, now)


def _fetch(
    block: ClientCredentials,
    variables: Mapping[str, str],
    credentials: Mapping[str, str],
    deadline: float,
    clock: Callable[[], datetime],
) -> Tokens:
    now = clock()
    client = Client(block, variables, credentials, deadline=deadline)
    fields = {"grant_type": "client_credentials", "scope": block.scope_separator.join(block.scopes)}
    return read_tokens(client.ask(client.url(block.token_url), fields, now), block, _URL_NAME, now)


def _exchange_assertion(
    block: JwtBearer,
    variables: Mapping[str, str],
    credentials: Mapping[str, str],
    deadline: float,
    clock: Callable[[], datetime],
) -> Tokens:
    now, url = clock(), fill_url(block.token_url, variables)
    assertion = make_assertion(block, url, variables, credentials, now)
    fields = {**block.token_params, "grant_type": _JWT_BEARER, "assertion": assertion}
    answer = post(url, fields, encoding=block.token_request, deadline=deadline)
    return read_tokens(read_answer(answer, block, _URL_NAME, [assertion], now), block, _URL_NAME, now)
