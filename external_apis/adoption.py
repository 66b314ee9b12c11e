"""Make a provider out of the catalogue, or out of what an authorization server says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from external_apis import api_config, catalogue
from external_apis.api_config import joined_data
from external_apis.catalogue import Preset
from external_apis.discovery import Metadata, discover, oauth2_config
from external_apis.errors import InvalidInput, NotFound
from external_apis.models import Category, Environment, ExternalApi
from external_apis.providers import create_external_api

__all__ = ["Wishes", "adopt", "complete", "discovered_preset", "find_preset"]

_CLIENT_FIELDS = {
    "oauth2": ("client_id", "client_secret"),
    "client_credentials": ("client_id", "client_secret"),
    "oauth1": ("consumer_key", "consumer_secret"),
}


@dataclass(frozen=True)
class Wishes:
    """What whoever adopts a preset decides. Its ``repr`` shows no secret."""

    slug: str = ""
    name: str = ""
    environment: str = Environment.PRODUCTION
    is_sandbox: bool = False
    tenant_id: str | None = None
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    changes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Values by their path in ``api_config``, such as ``oauth2.scopes``; none of them may be a secret."""


def find_preset(slug: str) -> Preset:
    """Return a definition of the catalogue as it can be used. Raises `NotFound`, and what `discover` raises."""
    preset = catalogue.find(slug)
    if preset is None:
        raise NotFound(f"The catalogue has no {slug}.")
    return complete(preset)


def complete(preset: Preset) -> Preset:
    """Return a preset that only names its discovery document with what that document says; others as they are.

    What the preset says itself stands. Raises what `discover` raises.
    """
    block = preset.api_config.get("oauth2") or {}
    if "token_url" in block or "discovery_url" not in block:
        return preset
    found = oauth2_config(discover(block["discovery_url"]))
    config = {**found, **preset.api_config, "oauth2": {**found["oauth2"], **block}}
    return replace(preset, api_config=config)


def discovered_preset(url: str, slug: str = "") -> Preset:
    """Return the definition of an authorization server that tells of itself. Raises what `discover` raises."""
    metadata = discover(url)
    slug = slug or _slug_of(metadata)
    category = Category.AUTHENTICATION.value
    return Preset(slug, slug.replace("-", " ").title(), category, slug, "", oauth2_config(metadata))


def adopt(preset: Preset, wishes: Wishes) -> ExternalApi:
    """Store a provider of this definition. Raises `InvalidInput` with field paths, `NotFound` and `Conflict`."""
    slug = wishes.slug or preset.slug
    config = _changed(preset.api_config, wishes.changes)
    _refuse_secrets(config, wishes.environment)
    body: dict[str, Any] = {
        "name": wishes.name or preset.name,
        "slug": slug,
        "category": preset.category,
        "provider": preset.provider,
        "api_config": _with_client(config, wishes),
        "environment": wishes.environment,
        "is_sandbox": wishes.is_sandbox,
        "sales_channel_id": wishes.tenant_id,
    }
    return create_external_api(body)


def _changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for path in changes:
        inner: Any = config
        for part in path.split(".")[:-1]:
            inner = inner.get(part, {})
            if not isinstance(inner, Mapping):
                raise InvalidInput(f"{path} lies inside {part}, which is no block of the configuration.")
    return joined_data(config, changes)


def _with_client(config: dict[str, Any], wishes: Wishes) -> dict[str, Any]:
    given = [wishes.client_id, wishes.client_secret]
    auth_type = str(config.get("auth_type"))
    if not any(given):
        return config
    if auth_type not in _CLIENT_FIELDS:
        raise InvalidInput(f"A provider with the auth type {auth_type} has no client id and no client secret.")
    names = zip(_CLIENT_FIELDS[auth_type], given, strict=True)
    return joined_data(config, {f"{auth_type}.{name}": value for name, value in names if value})


def _refuse_secrets(config: dict[str, Any], environment: str) -> None:
    """What stands among arguments is read by everybody on the machine, and kept in the shell's history."""
    if found := api_config.secret_values(api_config.parse(config, environment=environment)):
        path = min(found)
        raise InvalidInput(f"{path} is a secret, which is given by file, standard input or prompt, or in the admin.")


def _slug_of(metadata: Metadata) -> str:
    host = urlsplit(metadata.issuer).hostname or ""
    return host.replace(".", "-").strip("-").lower()[:100]
