"""The presets that ship with the product: TOML files beside this module, one for each category.

A file is named after its category; each of its tables is a preset under its slug:

    [stripe]
    name = "Stripe Payment Gateway"
    provider = "stripe"
    docs_url = "https://docs.stripe.com/api"
    env.STRIPE_SECRET_KEY = "access_token"

    [stripe.api_config]
    base_url = "https://api.stripe.com/v1"
    auth_type = "bearer"

``api_config`` is what `external_apis.api_config` validates, less every secret. ``env`` tells under which names people
keep its credentials in their environment, and the place of each value, or several: a credential by its name,
``provider_data.account_sid``, or in the provider's own configuration ``oauth2.client_id``. Of names for one place the
first goes first; ``env_apart`` lists names that go with each other, and not with the preset's other names.
``env_beside`` holds credentials that are the same for everybody.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from external_apis.api_config import ApiConfig, parse, secret_values, validation_errors
from external_apis.config_values import CredentialName
from external_apis.errors import InvalidConfiguration
from external_apis.models.providers import Category

__all__ = ["Preset", "load", "presets"]


@dataclass(frozen=True)
class Preset:
    """A provider's definition from which an operator makes a provider by adding credentials."""

    slug: str
    name: str
    category: str
    provider: str
    """Whose API it is."""
    docs_url: str
    api_config: Mapping[str, Any]
    # What is stored of an entry has none of these.
    env: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    env_apart: tuple[tuple[str, ...], ...] = field(default=(), compare=False)
    env_beside: Mapping[str, str] = field(default_factory=dict, compare=False)


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_VariableName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=100)]
_Place = Annotated[str, Field(pattern=r"^([a-z0-9_]+[.])?[a-z][a-z0-9_]*$", max_length=100)]
_Places = Annotated[tuple[_Place, ...], BeforeValidator(_as_tuple)]
_PROVIDER_DATA = "provider_data"


class _Table(BaseModel):
    """One table of a file; the bounds are those of the columns that it is stored in."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    slug: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    provider: Annotated[str, Field(min_length=1, max_length=100)]
    docs_url: Annotated[str, Field(pattern=r"^https://\S+$", max_length=500)]
    api_config: dict[str, Any]
    env: dict[_VariableName, _Places] = {}
    env_apart: tuple[tuple[_VariableName, ...], ...] = ()
    env_beside: dict[CredentialName, str] = {}


@cache
def presets() -> Mapping[str, Preset]:
    """Return the shipped presets by slug, ordered by category and slug. Read-only, as all callers share them."""
    return load(Path(__file__).parent)


def load(folder: Path) -> Mapping[str, Preset]:
    """Read the presets of a folder's TOML files.

    Raises `InvalidConfiguration` that names the file and, where it is known, the preset and the field.
    """
    found: dict[str, Preset] = {}
    for path in sorted(folder.glob("*.toml")):
        for preset in _read(path):
            if other := found.get(preset.slug):
                raise _refused(path, f"{preset.slug} is defined in {other.category}.toml too")
            found[preset.slug] = preset
    return MappingProxyType(found)


def _read(path: Path) -> Iterator[Preset]:
    if path.stem not in Category.values:
        raise _refused(path, f"{path.stem} is not a category; these are: {', '.join(Category.values)}")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _refused(path, f"is not valid TOML: {error}") from None
    for slug, table in sorted(tables.items()):
        try:
            yield _preset(slug, path.stem, table)
        except InvalidConfiguration as error:
            raise _refused(path, f"{slug}: {error.message}", error.details) from None


def _preset(slug: str, category: str, table: Any) -> Preset:
    if not isinstance(table, dict):
        raise InvalidConfiguration("is not a table")
    try:
        entry = _Table.model_validate({**table, "slug": slug})
    except ValidationError as error:
        errors = validation_errors(error, "preset")
        summary = "; ".join(f"{item['path']}: {item['message']}" for item in errors)
        raise InvalidConfiguration(summary, details={"errors": errors}) from None
    config = parse(entry.api_config, environment="production")
    if secrets := secret_values(config):
        raise InvalidConfiguration(f"holds a secret at api_config.{min(secrets)}; a preset carries none")
    for place in (*(place for places in entry.env.values() for place in places), *entry.env_beside):
        if not _exists(place, config):
            raise InvalidConfiguration(f"env names {place}, which {config.auth_type} does not use")
    if unknown := {name for names in entry.env_apart for name in names} - entry.env.keys():
        raise InvalidConfiguration(f"env_apart names {min(unknown)}, which env does not")
    return Preset(category=category, **entry.model_dump())


def _exists(place: str, config: ApiConfig) -> bool:
    block, _, name = place.rpartition(".")
    if block in ("", _PROVIDER_DATA):
        return bool(block) or name in config.credentials_expected()
    fields = getattr(type(getattr(config, block, None)), "model_fields", {})
    return block == config.auth_type and name in fields


def _refused(path: Path, problem: str, details: Mapping[str, Any] | None = None) -> InvalidConfiguration:
    return InvalidConfiguration(f"Catalogue file {path.name}: {problem}", details=details)
