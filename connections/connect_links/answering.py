"""Turn what somebody typed in into a connection: checked by a real call first, stored together with the link's use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.db import transaction

from connections.client import Target
from connections.connect_links.asking import questions, read_answers
from connections.connect_links.fulfilment import fulfil
from connections.credentials import read_credentials
from connections.editing import create_connection, update_connection
from connections.models import ConnectLink, ExternalApiConnection
from connections.oauth import grants
from connections.oauth.protocol import renew
from connections.oauth.tokens import Tokens
from connections.probe import probe
from external_apis.api_config import ApiConfig
from external_apis.crypto import Secrets
from external_apis.errors import CallError, EgressRefused, InvalidInput
from external_apis.oauth_config import SELF_SUFFICIENT
from external_apis.providers import open_config

__all__ = ["accept_keys"]

_TOKEN_SECONDS = 15.0


@dataclass(frozen=True)
class _Answer:
    config: ApiConfig
    secrets: Mapping[str, str] = field(repr=False)
    provider_data: Mapping[str, object]


def accept_keys(link: ConnectLink, posted: Mapping[str, str]) -> ExternalApiConnection:
    """Make the link's connection of a posted form, or give the existing one its new keys.

    Where the provider has a test path it is called with them, and nothing is stored unless it accepts them; client
    credentials and assertions have to fetch a token. Raises `InvalidInput` that repeats no value, and `LinkUnusable`.
    """
    answer = _read(link, posted)
    tokens = _fetch_token(answer)
    _check(link, answer, tokens)
    with transaction.atomic():
        connection = _store(link, answer)
        if tokens is not None:
            grants.store_tokens(connection, tokens, cause="connect_link")
        fulfil(link, connection)
    return connection


def _read(link: ConnectLink, posted: Mapping[str, str]) -> _Answer:
    config = open_config(link.external_api).api_config
    known = link.connection.provider_data if link.connection else {}
    secrets, provider_data = read_answers(questions(link.external_api, config, known), posted, config, known)
    read_credentials(secrets, config)
    return _Answer(config, secrets, provider_data)


def _fetch_token(answer: _Answer) -> Tokens | None:
    """The first token of a machine, which also shows that its credentials are right."""
    if answer.config.auth_type not in SELF_SUFFICIENT:
        return None
    try:
        return renew(answer.config, answer.secrets, answer.provider_data, deadline=time.monotonic() + _TOKEN_SECONDS)
    except (CallError, EgressRefused) as error:
        raise InvalidInput(f"The provider gave no token for this: {error.message}") from None


def _check(link: ConnectLink, answer: _Answer, tokens: Tokens | None) -> None:
    if answer.config.test_path is None:
        return
    api = link.external_api
    outcome = probe(
        Target(
            provider_id=api.pk,
            provider_slug=api.slug,
            connection_id="",
            connection_slug="new",
            config=answer.config,
            credentials=Secrets({**answer.secrets, **(tokens.credentials() if tokens else {})}),
            provider_data=dict(answer.provider_data),
        )
    )
    if not outcome.is_ok:
        said = f"status {outcome.status}" if outcome.status else "no answer that could be used"
        raise InvalidInput(f"{api.name} did not accept this: a trial call got {said}. Nothing was stored.")


def _store(link: ConnectLink, answer: _Answer) -> ExternalApiConnection:
    body = {"credentials": dict(answer.secrets), "provider_data": dict(answer.provider_data)}
    if link.connection is not None:
        return update_connection(link.connection, body)
    place = {"sales_channel_id": link.tenant_id, "partner_id": link.partner_id, "user_id": link.user_id}
    place["owner_id"] = link.owner_id
    name = link.connection_name or link.external_api.name
    return create_connection(link.external_api, {**body, **place, "connection_name": name[:200]})
