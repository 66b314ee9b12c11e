"""The OAuth blocks of a provider's ``api_config``, with what providers make different from the standards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from external_apis.config_values import Block, CredentialName, OwnUrl, Scope, Secret, UpstreamUrl

__all__ = [
    "BY_CONSENT",
    "GRANTED",
    "RENEWED",
    "SELF_SUFFICIENT",
    "ClientCredentials",
    "JwtBearer",
    "OAuth1",
    "OAuth2",
]

BY_CONSENT = frozenset({"oauth2", "oauth1"})
"""The auth types that send somebody to the provider's own page."""
SELF_SUFFICIENT = frozenset({"client_credentials", "jwt_bearer"})
"""Those that fetch a token without anybody's consent, whenever one is needed."""
RENEWED = SELF_SUFFICIENT | {"oauth2"}
"""Those whose access tokens end, and may be renewed."""
GRANTED = BY_CONSENT | SELF_SUFFICIENT
"""Those whose tokens a provider grants, and may take back."""

_AUTHORIZE_NAMES = frozenset({
    "client_id", "code_challenge", "code_challenge_method", "oauth_callback", "oauth_token", "redirect_uri",
    "response_type", "state",
})  # fmt: skip
_TOKEN_NAMES = frozenset({
    "assertion", "client_assertion", "client_id", "client_secret", "code", "code_verifier", "device_code", "grant_type",
    "redirect_uri", "refresh_token",
})  # fmt: skip
_PATH = r"^[^.]+(\.[^.]+)*$"

AnswerPath = Annotated[str, Field(min_length=1, max_length=200, pattern=_PATH)]
"""A dotted path into the token endpoint's answer: ``access_token``, ``authed_user.access_token``."""
Parameters = dict[Annotated[str, Field(pattern=r"^[\w.\[\]-]{1,100}$")], Annotated[str, Field(max_length=2000)]]


def _not_of(names: frozenset[str], value: Parameters) -> Parameters:
    if taken := names & set(value):
        raise ValueError(f"may not set {sorted(taken)[0]}, which the flow itself sets")
    return value


AuthorizeParameters = Annotated[Parameters, AfterValidator(lambda value: _not_of(_AUTHORIZE_NAMES, value))]
TokenParameters = Annotated[Parameters, AfterValidator(lambda value: _not_of(_TOKEN_NAMES, value))]


class _TokenBlock(Block):
    """What all grants of OAuth 2.0 share: where tokens come from, and how the answer is read."""

    token_url: UpstreamUrl
    scopes: list[Scope] = []
    scope_separator: Annotated[str, Field(min_length=1, max_length=3)] = " "
    """What stands between scopes; some want a comma."""
    token_params: TokenParameters = {}
    """Sent with every token request, such as audience or resource."""
    token_request: Literal["form", "json"] = "form"
    refresh_margin_seconds: Annotated[int, Field(strict=True, ge=0, le=86_400)] = 300
    """How long before its expiry a token is renewed."""

    access_token_path: AnswerPath = "access_token"
    refresh_token_path: AnswerPath = "refresh_token"
    token_type_path: AnswerPath = "token_type"
    scope_path: AnswerPath = "scope"
    """The granted scopes: a list, or a text with any of the usual separators."""
    expires_path: AnswerPath = "expires_in"
    expires_kind: Literal["seconds", "timestamp", "timestamp_ms", "date"] = "seconds"
    """What stands there: seconds from now, seconds or milliseconds since 1970, or a date. Numbers may be texts."""
    default_life_seconds: Annotated[int, Field(strict=True, ge=1, le=315_360_000)] | None = None
    """How long an access token lives where the answer does not tell; unset, it does not expire."""
    implied_scopes: list[Scope] = []
    """Scopes that count as granted although answers never name them, such as offline_access."""
    error_path: AnswerPath = "error"
    """Where an answer names its error, also one with status 200."""
    final_errors: list[Annotated[str, Field(min_length=1, max_length=100)]] = []
    """Errors that mean, whatever the status, that a grant is over; invalid_grant with status 400 always does."""
    kept_answer_fields: dict[CredentialName, AnswerPath] = {}
    """What is kept of an answer in the connection's provider_data, by name: {"team_id": "team.id"}. No secrets."""


class _ClientBlock(_TokenBlock):
    """A registered client, which proves itself at the token endpoint."""

    client_id: Secret | None = None
    client_secret: Secret | None = None
    client_auth: Literal["body", "basic"] = "body"
    """Whether the client's id and secret travel in the body or as HTTP Basic (RFC 6749 2.3.1)."""
    revocation_url: UpstreamUrl | None = None
    """Where tokens are revoked (RFC 7009)."""


class OAuth2(_ClientBlock):
    authorization_url: UpstreamUrl
    redirect_uri: OwnUrl | None = None
    """Unless given, the callback by the provider's id."""
    authorize_params: AuthorizeParameters = {}
    """Added to the authorization URL, such as access_type or prompt."""
    scope_parameter: Annotated[str, Field(pattern=r"^[a-z_]{1,50}$")] = "scope"
    """The name under which scopes are asked for; Slack's user tokens have user_scope."""
    pkce: bool = True
    """Proof key with S256 (RFC 7636); off for the few that refuse it."""
    issuer: UpstreamUrl | None = None
    """Its own name as it stands in ``iss`` of the callback (RFC 9207); once set, another one is refused."""
    iss_required: bool = False
    """Whether a callback without ``iss`` is refused; for providers that promise to send it."""
    discovery_url: UpstreamUrl | None = None
    refresh_url: UpstreamUrl | None = None
    """Where tokens are renewed, if not at the token URL."""
    rotates_refresh_tokens: bool | None = None
    """Whether each renewal gives another refresh token and uses up the old one; unset, that is learned by seeing it."""
    device_authorization_url: UpstreamUrl | None = None
    """Where a terminal asks for a device code (RFC 8628)."""

    @model_validator(mode="after")
    def _required_issuer_is_named(self) -> OAuth2:
        if self.iss_required and self.issuer is None:
            raise ValueError("iss_required needs the issuer that is to be compared")
        return self


class ClientCredentials(_ClientBlock):
    pass


class JwtBearer(_TokenBlock):
    """A signed assertion is exchanged for a token (RFC 7523), as Google's service accounts do.

    A connection's ``private_key`` is a PEM, or the JSON of a Google service account, which brings issuer and key id.
    """

    private_key: Secret | None = None
    """Where all connections share one."""
    issuer: Annotated[str, Field(max_length=500)] | None = None
    subject: Annotated[str, Field(max_length=500)] | None = None
    """On whose behalf; unless given, the issuer's."""
    audience: Annotated[str, Field(max_length=500)] | None = None
    """Unless given, the token URL."""
    key_id: Annotated[str, Field(max_length=200)] | None = None
    algorithm: Literal["RS256", "ES256"] = "RS256"
    claims: Parameters = {}
    """Further claims of the assertion."""
    assertion_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 300
    """How long an assertion may be used; providers allow five minutes to an hour."""


class OAuth1(Block):
    consumer_key: Secret | None = None
    consumer_secret: Secret | None = None
    consumer_private_key: Secret | None = None
    """The RSA key in PEM that signs with RSA-SHA1, in place of the secret."""
    request_token_url: UpstreamUrl
    authorization_url: UpstreamUrl
    access_token_url: UpstreamUrl
    redirect_uri: OwnUrl | None = None
    """Unless given, the callback by the provider's id."""
    request_token_params: Parameters = {}
    """Signed and sent with the request for a request token, such as scope."""
    authorize_params: AuthorizeParameters = {}
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "RSA-SHA1"] = "HMAC-SHA1"
