"""social-core's protocol code over a provider row: what it reads from class attributes comes from the configuration.

None of it logs anybody in: `do_auth`, which would, returns the tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from social_core.backends.oauth import BaseOAuth2PKCE

from connections.oauth.answers import read_answer, read_tokens
from connections.oauth.exchange import basic, post
from connections.oauth.strategy import AttemptStrategy
from connections.oauth.tokens import Tokens
from external_apis.errors import MissingCredential
from external_apis.url_variables import fill_url

if TYPE_CHECKING:
    from external_apis.oauth_config import ClientCredentials, OAuth2
    from external_apis.transport import Answer

__all__ = ["Client", "ProviderOAuth2", "with_parameters"]

_NAMES_OF_SECRETS = (
    "assertion", "client_secret", "code", "code_verifier", "device_code", "refresh_token", "token",
)  # fmt: skip
_PLAIN_BYTES = 32


class Client:
    """The client that a provider has registered for us, with the addresses of one connection's URL variables."""

    def __init__(
        self,
        block: OAuth2 | ClientCredentials,
        variables: Mapping[str, str],
        credentials: Mapping[str, str] | None = None,
        *,
        deadline: float | None = None,
    ) -> None:
        """``credentials`` are a connection's own id and secret, where it has them. Raises `MissingCredential`."""
        self.block, self.variables, self.deadline = block, variables, deadline
        own = credentials or {}
        self.id = own.get("client_id") or (block.client_id.get_secret_value() if block.client_id else "")
        self.secret = own.get("client_secret") or (
            block.client_secret.get_secret_value() if block.client_secret else ""
        )
        if not self.id:
            raise MissingCredential("The provider has no client_id.", details={"credential": "client_id"})

    def url(self, address: str) -> str:
        return fill_url(address, self.variables)

    def ask(self, url: str, fields: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Send a token request; return the answer's fields, raise as `read_answer` does."""
        sent = {name: str(value) for name, value in fields.items() if value not in (None, "")}
        answer = self.post(url, {**self.block.token_params, **sent})
        told = [self.secret, *(sent[name] for name in _NAMES_OF_SECRETS if name in sent)]
        return read_answer(answer, self.block, "The token endpoint", told, now)

    def post(self, url: str, fields: Mapping[str, str]) -> Answer:
        """Send fields with the client's own proof, in the body or as Basic. Raises `TokenEndpointFailed`."""
        sent = dict(fields)
        authorization = None
        if self.block.client_auth == "basic" and self.secret:
            authorization = basic(self.id, self.secret)
        else:
            sent["client_id"] = self.id
            if self.secret:
                sent["client_secret"] = self.secret
        encoding = self.block.token_request
        return post(url, sent, encoding=encoding, authorization=authorization, deadline=self.deadline)


class ProviderOAuth2(BaseOAuth2PKCE[Any]):
    """The authorization code flow and its refresh. ``now`` is the time that expiries count from."""

    name = "provider"
    REDIRECT_STATE = False
    ACCESS_TOKEN_METHOD = "POST"  # noqa: S105 (a method)
    block: OAuth2

    def __init__(self, client: Client, strategy: AttemptStrategy, redirect_uri: str, now: datetime) -> None:
        self.client, self.now = client, now
        self.block = client.block  # type: ignore[assignment]
        super().__init__(strategy, redirect_uri)

    # --- what social-core reads from settings and class attributes ----------------------------------------------------

    def setting(self, name: str, default: Any = None) -> Any:
        return {"USE_PKCE": self.block.pkce, "AUTH_EXTRA_ARGUMENTS": self.block.authorize_params}.get(name, default)

    def get_key_and_secret(self) -> tuple[str, str]:
        return self.client.id, self.client.secret

    def authorization_url(self) -> str:
        return self.client.url(self.block.authorization_url)

    def access_token_url(self) -> str:
        return self.client.url(self.block.token_url)

    def refresh_token_url(self) -> str:
        return self.client.url(self.block.refresh_url or self.block.token_url)

    def get_scope_argument(self) -> dict[str, str]:
        scopes = self.block.scope_separator.join(self.block.scopes)
        return {self.block.scope_parameter: scopes} if scopes else {}

    def use_basic_auth(self) -> bool:
        """Keep the client's proof out of the parameters: `Client.ask` adds it as the provider wants it."""
        return True

    def refresh_token_params(self, token: str, *args: Any, **kwargs: Any) -> dict[str, str]:
        return {"grant_type": "refresh_token", "refresh_token": token}

    def state_token(self) -> str:
        return secrets.token_urlsafe(_PLAIN_BYTES)

    # --- what it does by itself that we do in another way -------------------------------------------------------------

    def auth_url(self) -> str:
        """Encode the query: the base class unquotes all of it when no state hides in the redirect URI."""
        parameters: dict[str, str] = super().auth_params(self.get_or_create_state())  # type: ignore[no-untyped-call]
        return with_parameters(
            self.authorization_url(), self.auth_extra_arguments() | self.get_scope_argument() | parameters
        )

    def process_error(self, data: Any, **_kwargs: Any) -> None:
        """Errors have been told from answers by then, and those of a callback by `flows`."""

    def request(self, url: str, **options: Any) -> Any:
        fields = options.get("data") or options.get("json") or {}
        return _Read(self.client.ask(url, fields, self.now))

    def get_access_token(self, response: dict[str, Any]) -> str:
        return read_tokens(response, self.block, "The token endpoint", self.now).access_token

    def do_auth(self, access_token: str, *args: Any, **kwargs: Any) -> Tokens:
        return read_tokens(kwargs["response"], self.block, "The token endpoint", self.now)


class _Read:
    """An answer that has been read already, where social-core expects one of requests."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def json(self) -> dict[str, Any]:
        return self._fields

    def __reduce__(self) -> NoReturn:
        raise TypeError("An answer holds tokens and is not pickled.")


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """Add parameters to a URL's query, properly encoded."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(parse_qsl(parts.query) + list(parameters.items()))))
