"""The catalogue's rows: operators may add their own beside the shipped ones."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from external_apis.catalogue.presets import Preset, presets
from external_apis.models.catalogue import CatalogueEntry

__all__ = ["SeedResult", "find", "seed"]

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
    """Write the shipped presets into the catalogue, in two queries at most; a repetition writes nothing.

    A row under a shipped slug is the product's and follows its releases; rows under other slugs are left alone.
    """
    shipped = presets()
    stored: dict[str, Mapping[str, Any]] = {
        row["slug"]: row for row in CatalogueEntry.objects.filter(slug__in=shipped).values("slug", *_COLUMNS)
    }
    missing = [preset for slug, preset in shipped.items() if slug not in stored]
    outdated = [preset for slug, preset in shipped.items() if slug in stored and Preset(**stored[slug]) != preset]
    if missing or outdated:
        # Two first starts at once must not collide, hence the upsert also of what is missing.
        CatalogueEntry.objects.bulk_create(
            [CatalogueEntry(slug=preset.slug, **_columns(preset)) for preset in (*missing, *outdated)],
            update_conflicts=True,
            unique_fields=["slug"],
            update_fields=[*_COLUMNS, "updated_at"],
        )
    return SeedResult(len(missing), len(outdated), len(shipped) - len(missing) - len(outdated))


def _columns(preset: Preset) -> dict[str, Any]:
    return {name: getattr(preset, name) for name in _COLUMNS}
