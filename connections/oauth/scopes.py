"""What was asked for, what was granted, and what is missing of what the provider's configuration asks for today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connections.models import ExternalApiConnection
from external_apis.models import ExternalApi

__all__ = ["ScopeFacts", "scope_facts"]


@dataclass(frozen=True, slots=True)
class ScopeFacts:
    """``missing`` are those asked for, then or now, that were not granted; ``needs_reconsent`` counts today's alone."""

    requested: tuple[str, ...]
    granted: tuple[str, ...]
    missing: tuple[str, ...]
    needs_reconsent: bool


def scope_facts(row: ExternalApiConnection) -> ScopeFacts:
    """Compare scopes of a connection that was authorised; reads its provider, credential and grant, and no secret.

    Credentials that somebody pasted without naming scopes count as granted all.
    """
    grant, credential = getattr(row, "grant", None), getattr(row, "credential", None)
    asked, implied = _asked(row.external_api)
    requested = tuple(grant.requested_scopes) if grant is not None else ()
    granted = tuple(credential.scopes) if credential is not None else ()
    if not granted:
        return ScopeFacts(requested, granted, (), needs_reconsent=False)
    missing = [scope for scope in dict.fromkeys((*requested, *asked)) if scope not in {*granted, *implied}]
    return ScopeFacts(requested, granted, tuple(missing), needs_reconsent=bool(set(missing) & set(asked)))


def _asked(api: ExternalApi) -> tuple[list[str], list[str]]:
    """Read the stored configuration, which holds no secret, without validating it: lists show many rows."""
    block: Any = api.api_config.get("oauth2")
    if api.auth_type != "oauth2" or not isinstance(block, Mapping):
        return [], []
    return list(block.get("scopes", [])), list(block.get("implied_scopes", []))
