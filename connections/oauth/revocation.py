"""Ending a grant: the provider is told where it takes that (RFC 7009), and the tokens are removed in any case."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from time import monotonic
from typing import Any

from django.db import transaction

from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential
from connections.oauth import grants
from connections.oauth.answers import clean, error_of, fields_of
from connections.oauth.backends import Client
from connections.oauth.exchange import DEADLINE_SECONDS
from external_apis import audit
from external_apis.api_config import ClientCredentialsConfig, OAuth2Config, url_values
from external_apis.crypto import Secrets
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError, InvalidInput, NotFound
from external_apis.oauth_config import GRANTED
from external_apis.providers import open_config

__all__ = ["Revocation", "revoke"]

_TOKENS = ("refresh_token", "access_token", "oauth_token", "oauth_token_secret")
_HINTED = ("refresh_token", "access_token")
_MOST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Revocation:
    """``was_told`` is None where the provider has no revocation endpoint, or there was nothing to revoke there."""

    connection: ExternalApiConnection
    was_told: bool | None
    message: str


def revoke(connection: ExternalApiConnection) -> Revocation:
    """Tell the provider, then remove the tokens and mark the connection revoked, which stops renewals too.

    A provider that fails is reported in the message and in the event; the tokens are removed nevertheless. Where a
    renewal came in between, what it brought is revoked as well. Raises `InvalidInput` for other auth types, `NotFound`.
    """
    if connection.external_api.auth_type not in GRANTED:
        raise InvalidInput("Only OAuth connections are revoked; delete this one, or change its credentials.")
    secrets: Secrets | None = _secrets_of(connection)
    outcomes: list[bool | None] = []
    problem = ""
    while secrets is not None:
        was_told, said = _tell(connection, secrets)
        outcomes.append(was_told)
        problem = problem or said
        message = _message(outcomes, problem)
        secrets = _remove(connection, secrets, message, is_forced=len(outcomes) == _MOST_ROUNDS)
    connection.refresh_from_db()
    return Revocation(connection, _all(outcomes), message)


def _tell(connection: ExternalApiConnection, secrets: Secrets) -> tuple[bool | None, str]:
    """Revoke at the provider, the refresh token first; return whether it agreed, and what it said if not."""
    try:
        config = open_config(connection.external_api).api_config
        if isinstance(config, OAuth2Config):
            client = Client(config.oauth2, url_values(config, connection.provider_data))
        elif isinstance(config, ClientCredentialsConfig):
            client = Client(config.client_credentials, url_values(config, connection.provider_data), secrets)
        else:
            return None, ""
        url = client.block.revocation_url
        tokens = [(name, secrets[name]) for name in _HINTED if name in secrets]
        if url is None or not tokens:
            return None, ""
        client.deadline = monotonic() + DEADLINE_SECONDS
        give_back_database_connections()
        for hint, token in tokens:
            answer = client.post(client.url(url), {"token": token, "token_type_hint": hint})
            error = error_of(fields_of(answer), client.block.error_path)
            # Google and Salesforce end the access token with the refresh token, and then do not know it (RFC 7009 2.2).
            is_gone = answer.status == 400 and error[0] == "invalid_token"
            if answer.status not in (200, 204) and not is_gone:
                words = clean(" ".join(error), [token, client.secret])
                return False, f"The provider answered with status {answer.status}" + (f": {words}" if words else "")
    except ApiManagerError as error:
        return False, error.message
    return True, ""


def _remove(connection: ExternalApiConnection, told: Secrets, message: str, *, is_forced: bool) -> Secrets | None:
    """Remove the tokens, unless others than those ``told`` have come meanwhile: then return these."""
    with transaction.atomic():
        row = ExternalApiConnection.objects.select_for_update().filter(pk=connection.pk, deleted_at=None).first()
        if row is None:
            raise NotFound(f"Connection {connection.pk} not found")
        credential = ExternalApiCredential.objects.select_for_update().filter(pk=connection.pk).first()
        before = copy(row)
        facts: dict[str, list[Any]] = {}
        if credential is not None:
            credential_before = copy(credential)
            current: Secrets = credential.secrets_beside(_TOKENS)
            if not is_forced and any(current.get(name) != told.get(name) for name in _HINTED):
                return current
            credential.secrets = current.merged(dict.fromkeys(_TOKENS))
            credential.expires_at = None
            credential.save()
            facts = credential.changes_since(credential_before)
        row.status, row.error_message = ConnectionStatus.REVOKED, None
        row.save()
        grants.end(row, cause="manual", message=message)
        audit.record("connection.revoked", row, audit.changed_fields(row, before) | facts)
    return None


def _all(outcomes: Sequence[bool | None]) -> bool | None:
    return None if None in outcomes else all(outcomes)


def _message(outcomes: Sequence[bool | None], problem: str) -> str:
    was_told = _all(outcomes)
    if was_told is None:
        return "The tokens were removed. The provider was not told: end the grant there as well."
    if was_told:
        return "The provider has revoked the grant, and the tokens were removed."
    return f"The tokens were removed, but the provider may still hold the grant: {problem}"


def _secrets_of(connection: ExternalApiConnection) -> Secrets:
    credential: ExternalApiCredential | None = getattr(connection, "credential", None)
    if credential is None:
        return Secrets()
    return credential.secrets_beside(_TOKENS)
