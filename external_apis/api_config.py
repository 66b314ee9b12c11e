"""The shape of a provider's ``api_config`` (seed 000): one pydantic class for each auth type.

The same classes give validation, JSON Schema, OpenAPI and the admin's form. Secrets are `SecretStr` fields: `split`
takes them out for the vault, `join` puts them back for the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from external_apis.errors import InvalidConfiguration
from external_apis.url_rules import base_url_problem

__all__ = [
    "AUTH_BLOCKS",
    "AUTH_TYPES",
    "ApiConfig",
    "join",
    "joined_data",
    "parse",
    "schema",
    "secret_values",
    "split",
    "validation_errors",
]

PLACEHOLDER = "••••••••"
"""What a form shows for a stored secret; refused as a value."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_CREDENTIAL_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FORBIDDEN_DEFAULT_HEADERS = {
    "authorization", "connection", "content-length", "cookie", "host", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("is not a valid HTTP header name")
    return value


def _header_value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("holds characters that an HTTP header cannot carry")
    return value


def _credential_name(value: str) -> str:
    if not _CREDENTIAL_NAME.fullmatch(value):
        raise ValueError("is not a credential name (lower-case letters, digits and underscores)")
    return value


def _upstream_url(value: str, info: ValidationInfo) -> str:
    problem = base_url_problem(value, https_only=(info.context or {}).get("environment") == "production")
    if problem:
        raise ValueError(problem)
    return value


def _own_url(value: str, info: ValidationInfo) -> str:
    """An address of ours that the provider calls: plain http is fine on the loopback, where newcomers try it."""
    is_production = (info.context or {}).get("environment") == "production"
    problem = base_url_problem(value, https_only=is_production, loopback_may_be_http=True)
    if problem:
        raise ValueError(problem)
    return value


def _real_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text == PLACEHOLDER:
        raise ValueError("is the placeholder that stands for a stored secret, not a secret")
    if not text or len(text) > 20_000:
        raise ValueError("is empty or longer than 20,000 characters")
    if "\0" in text:
        raise ValueError("contains a NUL byte")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, Field(max_length=2000), AfterValidator(_header_value)]
CredentialName = Annotated[str, AfterValidator(_credential_name)]
UpstreamUrl = Annotated[str, Field(max_length=2000), AfterValidator(_upstream_url)]
OwnUrl = Annotated[str, Field(max_length=2000), AfterValidator(_own_url)]
Secret = Annotated[SecretStr, AfterValidator(_real_secret)]
Scope = Annotated[str, Field(min_length=1, max_length=500)]
CallCount = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A configuration may hold opened secrets and is not pickled.")


class RateLimit(_Block):
    """The provider's limits; they hold together."""

    requests_per_second: CallCount | None = None
    requests_per_minute: CallCount | None = None
    requests_per_hour: CallCount | None = None
    requests_per_day: CallCount | None = None
    scope: Literal["connection", "provider"] = "connection"
    """Whether each connection has the limits for itself or all connections of the provider share them."""


class RetryConfig(_Block):
    max_retries: Annotated[int, Field(strict=True, ge=0, le=20)] = 4
    """Attempts after the first one (seed 004 makes five attempts in all)."""
    backoff_ms: Annotated[int, Field(strict=True, ge=0, le=60_000)] = 1000
    """The first wait in milliseconds; it doubles with every attempt."""


class Webhook(_Block):
    url: OwnUrl
    secret: Secret | None = None
    events: list[Annotated[str, Field(min_length=1, max_length=200)]] = []


class HeaderKey(_Block):
    """One secret in one header, as bearer and basic providers of seed 000 configure it."""

    key: Secret | None = None
    header_name: HeaderName = "Authorization"
    key_prefix: HeaderValue = ""


class BearerKey(HeaderKey):
    key_prefix: HeaderValue = "Bearer "


class BasicKey(HeaderKey):
    """``key`` is ``username:password`` (Twilio: ``account_sid:auth_token``), Base64-encoded when it is sent."""

    key_prefix: HeaderValue = "Basic "


class ApiKey(_Block):
    key: Secret | None = None
    location: Literal["header", "query", "headers"] = "header"
    """``headers`` sends several named secrets at once, each in the header that ``headers`` gives it."""
    header_name: HeaderName = "X-API-Key"
    key_prefix: HeaderValue = ""
    query_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\[\]-]{1,100}$")] = "api_key"
    headers: dict[HeaderName, CredentialName] = {}
    """Header name to the name of the credential that it carries: ``{"DD-API-KEY": "api_key"}``."""
    keys: dict[CredentialName, Secret] = {}
    """The provider's own values for the names in ``headers``."""

    @model_validator(mode="after")
    def _headers_fit(self) -> ApiKey:
        if (self.location == "headers") != bool(self.headers):
            raise ValueError('headers names at least one header if, and only if, location is "headers"')
        if unknown := set(self.keys) - set(self.headers.values()):
            raise ValueError(f"keys names {sorted(unknown)[0]}, which no header carries")
        return self


class OAuth2(_Block):
    client_id: Secret | None = None
    client_secret: Secret | None = None
    authorization_url: UpstreamUrl
    token_url: UpstreamUrl
    scopes: list[Scope] = []
    redirect_uri: OwnUrl | None = None


class ClientCredentials(_Block):
    client_id: Secret | None = None
    client_secret: Secret | None = None
    token_url: UpstreamUrl
    scopes: list[Scope] = []


class OAuth1(_Block):
    consumer_key: Secret | None = None
    consumer_secret: Secret | None = None
    request_token_url: UpstreamUrl
    authorization_url: UpstreamUrl
    access_token_url: UpstreamUrl
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256"] = "HMAC-SHA1"


class Hmac(_Block):
    """Seed 004's signature; every part of it can be configured."""

    secret: Secret | None = None
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    signature_header: HeaderName = "X-Signature"
    signature_prefix: HeaderValue = ""
    timestamp_header: HeaderName = "X-Timestamp"
    template: Annotated[str, Field(max_length=500)] = "{method}\n{path}\n{timestamp}\n{body}"
    """What is signed. ``{path}`` is path and query as sent, ``{timestamp}`` whole seconds since 1970 UTC."""

    @model_validator(mode="after")
    def _template_is_known(self) -> Hmac:
        names = set(re.findall(r"\{(.*?)\}", self.template))
        if unknown := names - {"method", "path", "timestamp", "body"}:
            raise ValueError(f"template holds the unknown placeholder {{{sorted(unknown)[0][:40]}}}")
        if not names:
            raise ValueError("template signs nothing: it holds no placeholder")
        return self


class _Config(_Block):
    """What every auth type shares."""

    credential_names: ClassVar[tuple[str, ...]] = ()

    base_url: UpstreamUrl
    api_version: Annotated[str, Field(max_length=100)] | None = None
    api_version_header: HeaderName | None = None
    """The header that carries ``api_version``, such as ``Stripe-Version``."""
    request_encoding: Literal["json", "form"] = "json"
    default_headers: dict[HeaderName, HeaderValue] = {}
    test_path: Annotated[str, Field(pattern=r"^/[^\s\\]*$", max_length=500)] | None = None
    """A path that answers GET with 2xx when the credentials are right; 'Test connection' calls it."""
    rate_limit: RateLimit | None = None
    webhook: Webhook | None = None
    timeout_ms: Annotated[int, Field(strict=True, ge=1, le=600_000)] | None = None
    retry_config: RetryConfig | None = None

    @model_validator(mode="after")
    def _default_headers_are_harmless(self) -> _Config:
        for name in self.default_headers:
            if name.lower() in _FORBIDDEN_DEFAULT_HEADERS:
                raise ValueError(f"default_headers may not set {name}")
        return self

    def credentials_expected(self) -> frozenset[str]:
        """Names that a connection's credentials may hold under this configuration."""
        return frozenset(self.credential_names)


class OAuth2Config(_Config):
    auth_type: Literal["oauth2"]
    oauth2: OAuth2
    credential_names = ("access_token", "refresh_token")


class OAuth1Config(_Config):
    auth_type: Literal["oauth1"]
    oauth1: OAuth1
    credential_names = ("oauth_token", "oauth_token_secret")


class ClientCredentialsConfig(_Config):
    auth_type: Literal["client_credentials"]
    client_credentials: ClientCredentials
    credential_names = ("access_token", "client_id", "client_secret")


class ApiKeyConfig(_Config):
    auth_type: Literal["api_key"]
    api_key: ApiKey = ApiKey()
    credential_names = ("api_key",)

    def credentials_expected(self) -> frozenset[str]:
        return frozenset(self.api_key.headers.values() if self.api_key.location == "headers" else ("api_key",))


class BasicConfig(_Config):
    auth_type: Literal["basic"]
    api_key: BasicKey = BasicKey()
    credential_names = ("username", "password", "api_key")


class BearerConfig(_Config):
    auth_type: Literal["bearer"]
    api_key: BearerKey = BearerKey()
    credential_names = ("access_token", "api_key")


class HmacConfig(_Config):
    auth_type: Literal["hmac"]
    hmac: Hmac = Hmac()
    credential_names = ("hmac_secret",)


class NoAuthConfig(_Config):
    auth_type: Literal["none"]


ApiConfig = Annotated[
    OAuth2Config
    | OAuth1Config
    | ClientCredentialsConfig
    | ApiKeyConfig
    | BasicConfig
    | BearerConfig
    | HmacConfig
    | NoAuthConfig,
    Field(discriminator="auth_type"),
]
AUTH_TYPES = ("oauth2", "oauth1", "client_credentials", "api_key", "basic", "bearer", "hmac", "none")
AUTH_BLOCKS = ("oauth2", "oauth1", "client_credentials", "api_key", "hmac")
_adapter: TypeAdapter[ApiConfig] = TypeAdapter(ApiConfig)


def parse(data: Any, *, environment: str = "production") -> ApiConfig:
    """Validate a configuration, secrets included.

    Raises `InvalidConfiguration` with the seed's message; ``details["errors"]`` names the path of each field.
    """
    try:
        return _adapter.validate_python(data, context={"environment": environment})
    except ValidationError as error:
        errors = validation_errors(error, "api_config")
        summary = "; ".join(f"{item['path']}: {item['message']}" for item in errors[:5])
        raise InvalidConfiguration(f"Invalid API configuration: {summary}", details={"errors": errors}) from None


def validation_errors(error: ValidationError, prefix: str) -> list[dict[str, str]]:
    """Return path and message of each problem, without the input and without the union's tag in the path."""
    found = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        location = [str(part) for part in item["loc"]]
        if location and location[0] in AUTH_TYPES and prefix == "api_config":
            location = location[1:]
        message = item["msg"].removeprefix("Value error, ")
        if item["type"].startswith("union_tag_"):
            location, message = [*location, "auth_type"], f"is not one of {', '.join(AUTH_TYPES)}"
        found.append({"path": ".".join([prefix, *location] if prefix else location) or "(body)", "message": message})
    return found


def split(config: ApiConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the storable configuration without secrets, and the secrets by path (``oauth2.client_secret``)."""
    return _without_secrets(config), secret_values(config)


def join(stored: Mapping[str, Any], secrets: Mapping[str, str]) -> ApiConfig:
    """Put stored configuration and opened secrets together; the counterpart of `split`.

    What was valid when it was stored is not checked against the environment's rules again.
    """
    return parse(joined_data(stored, secrets), environment="")


def joined_data(stored: Mapping[str, Any], by_path: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``stored`` with each value of ``by_path`` (``oauth2.client_secret``) set in its place."""
    data = _copied(stored)
    for path, value in by_path.items():
        *blocks, name = path.split(".")
        target = data
        for block in blocks:
            target = target.setdefault(block, {})
        target[name] = value
    return data


def secret_values(block: BaseModel) -> dict[str, str]:
    return dict(_secrets(block, ""))


def schema() -> dict[str, Any]:
    """The JSON Schema of ``api_config`` as it is sent to us."""
    return _adapter.json_schema()


def _secrets(block: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in block:
        path = f"{prefix}{name}"
        if isinstance(value, SecretStr):
            yield path, value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(value, f"{path}.")
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, SecretStr):
                    yield f"{path}.{key}", item.get_secret_value()


def _without_secrets(block: BaseModel) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in block:
        if isinstance(value, BaseModel):
            kept[name] = _without_secrets(value)
        elif isinstance(value, SecretStr) or value is None:
            continue
        elif isinstance(value, dict):
            if plain := {key: item for key, item in value.items() if not isinstance(item, SecretStr)}:
                kept[name] = plain
        elif value != []:
            kept[name] = value
    return kept


def _copied(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in stored.items()}
