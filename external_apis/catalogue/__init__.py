"""Ready provider definitions without credentials: the shipped presets and the catalogue's rows made of them."""

from __future__ import annotations

from external_apis.catalogue.entries import SeedResult, find, seed, shipped
from external_apis.catalogue.presets import Preset, load, presets

__all__ = ["Preset", "SeedResult", "find", "load", "presets", "seed", "shipped"]
