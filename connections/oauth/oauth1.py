"""OAuth 1.0a's three legs (RFC 5849) with social-core's protocol code, signed by requests-oauthlib."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import jwt
import requests
from requests_oauthlib import OAuth1 as OAuth1Signer
from social_core.backends.oauth import BaseOAuth1

from connections.oauth.answers import clean
from connections.oauth.backends import with_parameters
from connections.oauth.exchange import send
from connections.oauth.strategy import AttemptStrategy
from connections.oauth.tokens import Tokens
from external_apis.errors import FlowRefused, GrantRefused, MissingCredential, TokenEndpointFailed
from external_apis.url_variables import fill_url

if TYPE_CHECKING:
    from pydantic import SecretStr

    from external_apis.oauth_config import OAuth1

__all__ = ["ProviderOAuth1", "RequestToken"]

_LONGEST = 4_000


@dataclass(frozen=True, slots=True, repr=False)
class RequestToken:
    """Temporary credentials, and where the user confirms them."""

    token: str
    secret: str
    url: str


class ProviderOAuth1(BaseOAuth1[Any]):
    """``data`` is what the callback brought. Raises `MissingCredential` without the consumer's key and proof."""

    name = "provider"
    REQUEST_TOKEN_METHOD = "POST"  # noqa: S105 (a method)

    def __init__(
        self,
        block: OAuth1,
        variables: Mapping[str, str],
        redirect_uri: str,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.block, self.variables = block, variables
        self._is_rsa = block.signature_method == "RSA-SHA1"
        self._key = _reveal("consumer_key", block.consumer_key)
        proof = "consumer_private_key" if self._is_rsa else "consumer_secret"
        self._proof = _reveal(proof, getattr(block, proof))
        self.REQUEST_TOKEN_URL = fill_url(block.request_token_url, variables)
        super().__init__(AttemptStrategy(data=data), redirect_uri)

    def begin(self) -> RequestToken:
        """Ask for a request token; raises as `finish` does, and `FlowRefused` where the callback is not confirmed.

        Without ``oauth_callback_confirmed`` it is OAuth 1.0, in which anybody can finish what another has begun.
        """
        fields = dict(parse_qsl(self.unauthorized_token()))  # type: ignore[no-untyped-call]
        if fields.get("oauth_callback_confirmed") != "true":
            message = "The provider did not confirm the callback: it does not speak OAuth 1.0a."
            raise FlowRefused(message, reason="unconfirmed")
        token = fields["oauth_token"]
        parameters = {**self.block.authorize_params, "oauth_token": token}
        return RequestToken(token, fields["oauth_token_secret"], with_parameters(self.authorization_url(), parameters))

    def finish(self, token: str, secret: str) -> Tokens:
        """Exchange a confirmed request token. Raises `GrantRefused`, `TokenEndpointFailed`."""
        fields = self.access_token({"oauth_token": token, "oauth_token_secret": secret})
        return Tokens(fields["oauth_token"], token_secret=fields["oauth_token_secret"], token_type="OAuth")  # noqa: S106

    # --- what social-core reads from settings and class attributes ----------------------------------------------------

    def setting(self, name: str, default: Any = None) -> Any:
        return dict(self.block.request_token_params) if name == "REQUEST_TOKEN_EXTRA_ARGUMENTS" else default

    def get_key_and_secret(self) -> tuple[str, str]:
        return self._key, "" if self._is_rsa else self._proof

    def authorization_url(self) -> str:
        return fill_url(self.block.authorization_url, self.variables)

    def access_token_url(self) -> str:
        return fill_url(self.block.access_token_url, self.variables)

    # --- what it does by itself that we do in another way -------------------------------------------------------------

    def request(self, url: str, **options: Any) -> Any:
        """Sign with the configured method, and send over the guarded transport.

        Parameters go into the body, and the callback into the first request alone.
        """
        signer: OAuth1Signer = options["auth"]
        signer.client.signature_method = self.block.signature_method
        if self._is_rsa:
            signer.client.rsa_key = self._proof
        if options.get("stage") != "begin":
            signer.client.callback_uri = None
        try:
            prepared = requests.Request("POST", url, data=options.get("params") or {}, auth=signer).prepare()
        except (ValueError, TypeError, jwt.PyJWTError):
            message = "The consumer_private_key is no RSA key in PEM."
            raise MissingCredential(message, details={"credential": "consumer_private_key"}) from None
        headers = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in prepared.headers.items()
            if name.lower() != "content-length"
        }
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
        answer = send("POST", str(prepared.url), headers, body)
        return _read(answer.status, answer.body, [self._proof, signer.client.resource_owner_secret or ""])

    def process_error(self, data: Any, **_kwargs: Any) -> None:
        """Errors have been told from answers by then, and those of a callback by `flows`."""


def _read(status: int, body: bytes, secrets: list[str]) -> requests.Response:
    """Return a response with a token in it, as social-core reads them; raise for anything else."""
    text = body.decode(errors="replace")
    fields = dict(parse_qsl(text[: _LONGEST * 4], max_num_fields=50)) if "=" in text else {}
    if status == 200 and all(
        0 < len(fields.get(name, "")) <= _LONGEST for name in ("oauth_token", "oauth_token_secret")
    ):
        if not f"{fields['oauth_token']}{fields['oauth_token_secret']}".isprintable():
            raise TokenEndpointFailed("The token endpoint answered with something that is no token.")
        response = requests.Response()
        response.status_code, response._content, response.encoding = 200, body, "utf-8"  # noqa: SLF001
        return response
    problem = clean(fields.get("oauth_problem", "") or ("" if "<" in text else text[:500]), secrets)
    message = f"The token endpoint answered with status {status}" + (f": {problem}." if problem else ".")
    if 400 <= status < 500 and status not in (408, 425, 429):
        raise GrantRefused(message, error=clean(fields.get("oauth_problem", ""), secrets)[:100])
    raise TokenEndpointFailed(message)


def _reveal(name: str, secret: SecretStr | None) -> str:
    if secret is None:
        raise MissingCredential(f"The provider has no {name}.", details={"credential": name})
    return secret.get_secret_value()
