"""The shape of a provider's ``api_config`` (seed 000): one pydantic class for each auth type.

The same classes give validation, JSON Schema, OpenAPI and the admin's form. Secrets are `SecretStr` fields: `split`
takes them out for the vault, `join` puts them back for the client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr, TypeAdapter, ValidationError, field_validator, model_validator

from external_apis.auth_config import (
    AlsoHeaders,
    ApiKey,
    AwsSigV4,
    BasicKey,
    BearerKey,
    Hmac,
)
from external_apis.call_config import Proxy, RateLimit, ResponseRule, RetryConfig, UrlVariable, Webhook
from external_apis.config_values import (
    PLACEHOLDER,
    Block,
    CredentialName,
    HeaderName,
    HeaderValue,
    UpstreamUrl,
)
from external_apis.errors import InvalidConfiguration
from external_apis.oauth_config import ClientCredentials, JwtBearer, OAuth1, OAuth2
from external_apis.pagination_config import Pagination
from external_apis.url_variables import names_in, read_values

__all__ = [
    "AUTH_BLOCKS",
    "AUTH_TYPES",
    "PLACEHOLDER",
    "ApiConfig",
    "join",
    "joined_data",
    "parse",
    "schema",
    "secret_values",
    "split",
    "url_values",
    "validation_errors",
]

_WITH_VARIABLES = ("audience", "issuer", "region", "test_path")
_CERTIFICATE_CREDENTIALS = ("client_certificate", "client_key")
_FORBIDDEN_DEFAULT_HEADERS = {
    "authorization", "connection", "content-length", "cookie", "host", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip


class _Config(Block):
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
    response_rules: list[ResponseRule] = []
    """For providers whose statuses do not say what happened, such as those that report errors inside a 200."""
    url_variables: dict[CredentialName, UrlVariable] = {}
    """Parts of URLs and call paths that each connection gives in its provider_data: ``https://{shop}.example.com``."""
    also: AlsoHeaders | None = None
    mutual_tls: bool = False
    """Whether connections show a client certificate, beside what the auth type does."""
    pagination: Pagination | None = None
    graphql_path: Annotated[str, Field(pattern=r"^/[^\s\\]*$", max_length=500)] | None = None
    """Where GraphQL is spoken below the base URL; ``/graphql`` unless something else stands here."""
    proxy: Proxy | None = None

    @model_validator(mode="after")
    def _default_headers_are_harmless(self) -> _Config:
        for name in self.default_headers:
            if name.lower() in _FORBIDDEN_DEFAULT_HEADERS:
                raise ValueError(f"default_headers may not set {name}")
        return self

    @model_validator(mode="after")
    def _variables_are_declared(self) -> _Config:
        if unknown := {name for text in _templates(self) for name in names_in(text)} - set(self.url_variables):
            raise ValueError(f"url_variables does not declare {{{sorted(unknown)[0]}}}, which a URL holds")
        return self

    def credentials_expected(self) -> frozenset[str]:
        """Names that a connection's credentials may hold under this configuration."""
        also = self.also.names() if self.also else ()
        return frozenset((*self.own_credentials(), *also, *(_CERTIFICATE_CREDENTIALS if self.mutual_tls else ())))

    def own_credentials(self) -> tuple[str, ...]:
        """Names that the auth type itself uses."""
        return self.credential_names


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


class JwtBearerConfig(_Config):
    auth_type: Literal["jwt_bearer"]
    jwt_bearer: JwtBearer
    credential_names = ("access_token", "private_key", "key_id", "issuer", "subject")


class ApiKeyConfig(_Config):
    auth_type: Literal["api_key"]
    api_key: ApiKey = ApiKey()
    credential_names = ("api_key",)

    def own_credentials(self) -> tuple[str, ...]:
        return tuple(self.api_key.headers.values()) if self.api_key.location == "headers" else ("api_key",)


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


class AwsSigV4Config(_Config):
    auth_type: Literal["aws_sigv4"]
    aws_sigv4: AwsSigV4
    credential_names = ("access_key_id", "secret_access_key", "session_token")


class MutualTlsConfig(_Config):
    """A client certificate alone says who calls."""

    auth_type: Literal["mtls"]
    mutual_tls: bool = True
    credential_names = _CERTIFICATE_CREDENTIALS

    @field_validator("mutual_tls")
    @classmethod
    def _is_always_on(cls, _value: bool) -> bool:
        """A form that comes from another auth type still says that it is off."""
        return True


class NoAuthConfig(_Config):
    auth_type: Literal["none"]


ApiConfig = Annotated[
    OAuth2Config
    | OAuth1Config
    | ClientCredentialsConfig
    | JwtBearerConfig
    | ApiKeyConfig
    | BasicConfig
    | BearerConfig
    | HmacConfig
    | AwsSigV4Config
    | MutualTlsConfig
    | NoAuthConfig,
    Field(discriminator="auth_type"),
]
AUTH_TYPES = (
    "oauth2",
    "oauth1",
    "client_credentials",
    "jwt_bearer",
    "api_key",
    "basic",
    "bearer",
    "hmac",
    "aws_sigv4",
    "mtls",
    "none",
)
AUTH_BLOCKS = ("oauth2", "oauth1", "client_credentials", "jwt_bearer", "api_key", "hmac", "aws_sigv4")
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


def url_values(config: ApiConfig, provider_data: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of a provider's URL variables for a connection; raises `InvalidInput` with field paths."""
    return read_values(config.url_variables, provider_data, tuple(_templates(config)))


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
        elif isinstance(value, SecretStr) or value is None or value == []:
            continue
        elif isinstance(value, dict):
            if plain := {key: _plain(item) for key, item in value.items() if not isinstance(item, SecretStr)}:
                kept[name] = plain
        else:
            kept[name] = [_plain(item) for item in value] if isinstance(value, list) else value
    return kept


def _plain(value: Any) -> Any:
    return _without_secrets(value) if isinstance(value, BaseModel) else value


def _templates(block: BaseModel) -> Iterator[str]:
    """The texts that URL variables may stand in: addresses, names of issuers, and the region of AWS's signature."""
    for name, value in block:
        if isinstance(value, BaseModel):
            yield from _templates(value)
        elif isinstance(value, str) and (name.endswith("_url") or name in _WITH_VARIABLES):
            yield value


def _copied(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in stored.items()}
