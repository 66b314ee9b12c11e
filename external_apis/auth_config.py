"""The block of each auth type in a provider's ``api_config``; those of OAuth stand in `oauth_config`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from external_apis.config_values import (
    Block,
    CredentialName,
    HeaderName,
    HeaderValue,
    Secret,
)

__all__ = [
    "AlsoHeaders",
    "ApiKey",
    "AwsSigV4",
    "BasicKey",
    "BearerKey",
    "Hmac",
]

_CREDENTIAL = r"\{([a-z][a-z0-9_]{0,63})\}"


def _credential_template(value: str) -> str:
    if set("{}") & set(re.sub(_CREDENTIAL, "", value)) or not re.search(_CREDENTIAL, value):
        raise ValueError("is not a text with the name of a credential in braces, such as {api_key}")
    return value


class HeaderKey(Block):
    """One secret in one header, as bearer and basic providers of seed 000 configure it."""

    key: Secret | None = None
    header_name: HeaderName = "Authorization"
    key_prefix: HeaderValue = ""


class BearerKey(HeaderKey):
    key_prefix: HeaderValue = "Bearer "


class BasicKey(HeaderKey):
    """``key`` is ``username:password`` (Twilio: ``account_sid:auth_token``), Base64-encoded when it is sent."""

    key_prefix: HeaderValue = "Basic "


class ApiKey(Block):
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


class AlsoHeaders(Block):
    """Credentials in headers beside the auth type: a key where a vendor wants one next to a bearer token."""

    headers: dict[HeaderName, Annotated[HeaderValue, AfterValidator(_credential_template)]]
    """Header name to what it carries, with the names of credentials in braces: {"X-Api-Key": "{api_key}"}."""
    keys: dict[CredentialName, Secret] = {}
    """The provider's own values for those names."""

    @model_validator(mode="after")
    def _keys_are_carried(self) -> AlsoHeaders:
        if not self.headers:
            raise ValueError("headers names no header")
        if unknown := set(self.keys) - self.names():
            raise ValueError(f"keys names {sorted(unknown)[0]}, which no header carries")
        return self

    def names(self) -> set[str]:
        return {name for text in self.headers.values() for name in re.findall(_CREDENTIAL, text)}


class Hmac(Block):
    """Seed 004's signature; every part of it can be configured."""

    secret: Secret | None = None
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    signature_header: HeaderName = "X-Signature"
    signature_prefix: HeaderValue = ""
    timestamp_header: HeaderName = "X-Timestamp"
    template: Annotated[str, Field(max_length=500)] = "{method}\n{path}\n{timestamp}\n{body}"
    """What is signed. ``{path}`` is path and query as sent, ``{timestamp}`` whole seconds since 1970 UTC."""
    timestamp_unit: Literal["seconds", "milliseconds"] = "seconds"

    @model_validator(mode="after")
    def _template_is_known(self) -> Hmac:
        names = set(re.findall(r"\{(.*?)\}", self.template))
        if unknown := names - {"method", "path", "timestamp", "body"}:
            raise ValueError(f"template holds the unknown placeholder {{{sorted(unknown)[0][:40]}}}")
        if not names:
            raise ValueError("template signs nothing: it holds no placeholder")
        return self


class AwsSigV4(Block):
    """AWS Signature Version 4 (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html)."""

    region: Annotated[str, Field(pattern=r"^([a-z0-9-]+|\{[a-z][a-z0-9_]*\})$", max_length=100)]
    """Such as us-east-1, or a URL variable: {region}."""
    service: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=100)]
    """AWS's own name of the service: s3, ses, execute-api."""
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
