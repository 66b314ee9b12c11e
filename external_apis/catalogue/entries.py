"""The catalogue's rows: operators may add their own beside the shipped ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from django.db import transaction

from external_apis import audit
from external_apis.catalogue import social_core
from external_apis.catalogue.presets import Preset, presets
from external_apis.models.catalogue import CatalogueEntry

__all__ = ["SeedResult", "find", "seed", "shipped"]

_SUFFIX = re.compile(r"-oauth2?$")
_DIALECT = ("client_auth", "refresh_url", "revocation_url", "scope_separator", "token_request")
_COLUMNS = ("name", "category", "provider", "docs_url", "api_config")


@dataclass(frozen=True)
class SeedResult:
    """How many rows `seed` made, brought up to date, and found as they should be."""

    created: int
    updated: int
    unchanged: int


def find(slug: str) -> Preset | None:
    """Return the catalogue's row of this slug, else the shipped preset, else None. The answer is the caller's own."""
    row = CatalogueEntry.objects.filter(slug=slug).values("slug", *_COLUMNS).first()
    if row is not None:
        return Preset(**row)
    preset = presets().get(slug)
    return preset and replace(preset, api_config=deepcopy(preset.api_config))


def seed() -> SeedResult:
    """Write the `shipped` presets into the catalogue, in two queries at most; a repetition writes nothing.

    A row under a shipped slug is the product's and follows its releases; rows under other slugs are left alone.
    """
    offered = shipped()
    stored: dict[str, Mapping[str, Any]] = {
        row["slug"]: row for row in CatalogueEntry.objects.filter(slug__in=offered).values("slug", *_COLUMNS)
    }
    missing = [preset for slug, preset in offered.items() if slug not in stored]
    outdated = [preset for slug, preset in offered.items() if slug in stored and Preset(**stored[slug]) != preset]
    if missing or outdated:
        # Two first starts at once must not collide, hence the upsert also of what is missing.
        with transaction.atomic():
            CatalogueEntry.objects.bulk_create(
                [CatalogueEntry(slug=preset.slug, **_columns(preset)) for preset in (*missing, *outdated)],
                update_conflicts=True,
                unique_fields=["slug"],
                update_fields=[*_COLUMNS, "updated_at"],
            )
            counts = {"created": len(missing), "updated": len(outdated)}
            audit.record_about("catalogue.seeded", CatalogueEntry._meta.model_name or "", changes=counts)
    return SeedResult(len(missing), len(outdated), len(offered) - len(missing) - len(outdated))


@cache
def shipped() -> Mapping[str, Preset]:
    """Return our own presets and those read of social-core, by slug, ordered by category and slug.

    Where both know a provider, by social-core's name with or without ``-oauth2``, ours stands, and social-core fills
    what it leaves open. Where ours authenticates otherwise (a bot's token, say), both stand side by side.
    """
    found = dict(presets())
    backends = social_core.read()
    for preset in (*backends.plain.values(), *backends.discovered.values()):
        own = found.get(preset.slug) or found.get(_SUFFIX.sub("", preset.slug))
        if own is not None and own.api_config["auth_type"] == preset.api_config["auth_type"]:
            found[own.slug] = _filled(own, preset)
        elif preset.slug in found:
            slug = f"{preset.slug}-{preset.api_config['auth_type']}"
            found[slug] = replace(preset, slug=slug)
        else:
            found[preset.slug] = preset
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: (item[1].category, item[0]))))


def _filled(own: Preset, other: Preset) -> Preset:
    """Add social-core's dialect to a preset of ours whose tokens come from the same place."""
    auth_type = own.api_config["auth_type"]
    block, known = own.api_config[auth_type], other.api_config[auth_type]
    if block.get("token_url") != known.get("token_url"):
        return own
    merged = {**{name: known[name] for name in _DIALECT if name in known}, **block}
    return replace(own, api_config={**own.api_config, auth_type: merged})


def _columns(preset: Preset) -> dict[str, Any]:
    return {name: getattr(preset, name) for name in _COLUMNS}
