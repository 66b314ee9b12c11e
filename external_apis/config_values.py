"""Values that configurations are made of, each with its check: URLs, header names, secrets."""

from __future__ import annotations

import re
from typing import Annotated, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo

from external_apis.url_rules import base_url_problem
from external_apis.url_variables import fill_url, names_in, template_problem

__all__ = [
    "PLACEHOLDER",
    "Block",
    "CredentialName",
    "HeaderName",
    "HeaderValue",
    "OwnUrl",
    "Scope",
    "Secret",
    "UpstreamUrl",
]

PLACEHOLDER = "••••••••"
"""What a form shows for a stored secret; refused as a value."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_CREDENTIAL_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


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
    """An address of the provider, with ``{variables}`` where each connection has its own."""
    filled = value
    if "{" in value or "}" in value:
        if problem := template_problem(value):
            raise ValueError(problem)
        filled = fill_url(value, dict.fromkeys(names_in(value), "x"))
    problem = base_url_problem(filled, https_only=(info.context or {}).get("environment") == "production")
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


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A configuration may hold opened secrets and is not pickled.")
