"""Puts the sandbox's providers and connections into the database, so that a newcomer has something to call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from connections.editing import create_connection
from connections.sandbox.definitions import (
    WEBHOOK_SLUG,
    providers,
    signin_providers,
    vendor_providers,
    webhook_provider,
)
from connections.sandbox.oauth.registry import provider_id
from external_apis.errors import Conflict
from external_apis.models import ExternalApi
from external_apis.providers import create_external_api, update_external_api

__all__ = ["SandboxSeeding", "seed_sandbox"]


@dataclass(frozen=True)
class SandboxSeeding:
    """How many providers `seed_sandbox` made, and pointed to the sandbox's new address."""

    created: int
    moved: int


def seed_sandbox(base_url: str) -> SandboxSeeding:
    """Store providers for all that the sandbox at ``base_url`` offers, connected where no consent is needed.

    Repeat it at will: rows are recognised by fixed ids. A later call follows the sandbox to another port and leaves
    alone what an operator has changed, deleted, or made under the same slugs.
    """
    webhook_url = f"{settings.PUBLIC_BASE_URL}/api/webhooks/{WEBHOOK_SLUG}/{provider_id(WEBHOOK_SLUG)}"
    bodies = [*providers(base_url), *vendor_providers(base_url), *signin_providers(base_url)]
    bodies.append(webhook_provider(base_url, webhook_url))
    stored = ExternalApi.objects.in_bulk([provider_id(body["slug"]) for body in bodies])
    created = moved = 0
    for body in bodies:
        api = stored.get(provider_id(body["slug"]))
        if api is None:
            created += _create(body)
        elif not api.is_deleted and (patch := _moved(api.api_config, body["api_config"])):
            update_external_api(api, {"api_config": patch})
            moved += 1
    return SandboxSeeding(created=created, moved=moved)


def _create(body: Mapping[str, Any]) -> bool:
    made_id = provider_id(body["slug"])
    definition = {name: value for name, value in body.items() if name != "connection"}
    try:
        with transaction.atomic():
            api = create_external_api({**definition, "id": made_id})
            if "connection" in body:
                create_connection(api, {**body["connection"], "id": made_id.replace("ext_api_", "conn_", 1)})
    except Conflict:  # an operator's own provider has the slug
        return False
    return True


def _moved(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch for URLs that differ from the wanted ones in nothing but the port."""
    patch: dict[str, Any] = {}
    for name, value in wanted.items():
        now = stored.get(name)
        if isinstance(value, Mapping) and isinstance(now, Mapping):
            if inner := _moved(now, value):
                patch[name] = inner
        elif isinstance(value, str) and isinstance(now, str) and now != value and _ported(now) == _ported(value):
            patch[name] = value
    return patch


def _ported(url: str) -> tuple[str, str | None, str] | str:
    parts = urlsplit(url)
    return (parts.scheme, parts.hostname, parts.path) if parts.scheme in ("http", "https") else url
