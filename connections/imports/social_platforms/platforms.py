"""A platform of the old table as a provider: by the catalogue where it is known, else by the row's own fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connections.imports.social_platforms.old_rows import OldRow
from connections.imports.social_platforms.refusals import of_one_row
from external_apis import api_config, catalogue
from external_apis.catalogue import Preset
from external_apis.errors import InvalidInput
from external_apis.models.providers import Category, ProviderStatus

__all__ = ["Definition", "define"]

UNKNOWN_URL = "https://unknown.invalid"
"""Stands where nobody knows a platform's address; such a name never resolves (RFC 2606)."""

_SAME = {
    "fb": ("facebook",),
    "facebook-page": ("facebook",),
    "facebook-pages": ("facebook",),
    "meta": ("facebook",),
    "ig": ("instagram",),
    "instagram-business": ("instagram",),
    "twitter": ("x", "twitter", "twitter-oauth2"),
    "x-twitter": ("x", "twitter"),
    "twitter-x": ("x", "twitter"),
    "whatsapp-business": ("whatsapp",),
    "linked-in": ("linkedin",),
    "google": ("google-identity",),
}
_STATUSES = {
    "active": ProviderStatus.ACTIVE,
    "connected": ProviderStatus.ACTIVE,
    "error": ProviderStatus.ACTIVE,
    "pending": ProviderStatus.ACTIVE,
    "deprecated": ProviderStatus.DEPRECATED,
}
_OWN_SETTINGS = ("rate_limit", "timeout_ms", "retry_config", "webhook")
_CLIENT_SECRETS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "oauth2": {"client_id": ("client_id", "app_id"), "client_secret": ("client_secret", "app_secret")},
    "oauth1": {
        "consumer_key": ("consumer_key", "api_key", "client_id"),
        "consumer_secret": ("consumer_secret", "api_secret", "client_secret"),
    },
}
_CLIENTS = {name for names in _CLIENT_SECRETS.values() for spellings in names.values() for name in spellings} | {"key"}
_URLS = {
    "oauth2": ("authorization_url", "token_url"),
    "oauth1": ("request_token_url", "authorization_url", "access_token_url"),
}


@dataclass(frozen=True)
class Definition:
    """``body`` makes the provider (seed 000's, with secrets: not to be shown); ``notes`` are for people."""

    slug: str
    body: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Definition {self.slug}>"


@of_one_row
def define(row: OldRow) -> Definition:
    """Return what a platform's row becomes.

    One that neither the catalogue nor its own fields tell the address of becomes an inactive provider of category
    ``other`` at `UNKNOWN_URL`: its accounts move in with it, and work once somebody has corrected it. Raises
    `InvalidInput` where the row's secrets do not open or its configuration is none.
    """
    broken = {path: problem for path, problem in row.parted.problems.items() if path.rpartition(".")[2] in _CLIENTS}
    if broken:
        raise InvalidInput("; ".join(f"{path} {problem}" for path, problem in broken.items()))
    preset = _preset(row)
    notes = [*row.parted.notes, *(f"its {path} was left out: it {why}" for path, why in row.parted.problems.items())]
    slug = preset.slug if preset else _slug_of(row)
    config = _with_client(row, dict(preset.api_config) if preset else _own_config(row))
    for name, value in _own_settings(row):
        try:
            api_config.parse({**config, name: value})
        except InvalidInput as error:
            notes.append(f"its {name} was left out: {error.message}")
        else:
            config[name] = value
    status = _STATUSES.get((row.column("status") or "active").lower(), ProviderStatus.INACTIVE)
    if row.is_switched_off:
        status = ProviderStatus.INACTIVE
    category = preset.category if preset else row.text("category").lower()
    if preset is None:
        notes.append("is unknown to the catalogue")
        if config["base_url"] == UNKNOWN_URL:
            status, category = ProviderStatus.INACTIVE, Category.OTHER
            notes.append("has no usable base_url: imported as inactive, give it one and make it active")
    body = {
        "name": " ".join(row.text("name").split())[:200].strip() or (preset.name if preset else slug),
        "slug": slug,
        "category": category if category in Category.values else Category.OTHER,
        "provider": preset.provider if preset else slug,
        "description": row.text("description")[:10_000],
        "metadata": _metadata(row),
        "api_config": config,
        "status": status,
    }
    api_config.parse(config)  # raises, so that also a dry run tells
    return Definition(slug, body, tuple(notes))


def _slug_of(row: OldRow) -> str:
    """Return the slug that a row names itself, else one made of its name or its id."""
    for text in (row.text("slug"), row.text("handle", "key", "code"), row.text("provider"), row.text("name"), row.id):
        if slug := re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:90].strip("-"):
            return slug
    return "platform"


def _preset(row: OldRow) -> Preset | None:
    """The catalogue's entry that authenticates as the row says, where it says so."""
    auth_type = row.text("auth_type").lower()
    slugs, shipped = dict.fromkeys(_candidates(row)), catalogue.shipped()
    found = [preset for slug in slugs if (preset := catalogue.find(slug) or shipped.get(slug)) is not None]
    fitting = [preset for preset in found if auth_type in ("", preset.api_config["auth_type"])]
    return fitting[0] if fitting else None


def _candidates(row: OldRow) -> Iterator[str]:
    for text in (row.text("slug"), row.text("provider"), row.text("name")):
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        for candidate in (slug, re.sub(r"-(api|graph-api|platform|oauth2?)$", "", slug)):
            if candidate:
                yield from _SAME.get(candidate, ())
                yield candidate


def _own_settings(row: OldRow) -> Iterator[tuple[str, Any]]:
    """Of the row's configuration what the catalogue cannot know: limits, time-outs, and the webhook with its secret."""
    own = _own(row)
    for name in _OWN_SETTINGS:
        if value := own.get(name):
            secret = row.parted.secrets.get(f"api_config.{name}.secret")
            yield name, {**value, "secret": secret} if secret and isinstance(value, Mapping) else value


def _own(row: OldRow) -> Mapping[str, Any]:
    own = row.plain.get("api_config")
    return own if isinstance(own, Mapping) else {}


def _own_config(row: OldRow) -> dict[str, Any]:
    """What the row says itself: seed 000's ``api_config``, or columns."""
    own, auth_type = _own(row), row.text("auth_type").lower() or "bearer"
    config: dict[str, Any] = {"base_url": _base_url(row)}
    needed = _URLS.get(auth_type)
    if needed is not None:
        nested = own.get(auth_type)
        block = nested if isinstance(nested, Mapping) else own
        urls = {name: block.get(name) for name in needed}
        if not all(urls.values()):
            # Without its addresses nobody can be sent there to consent; the tokens that there are work.
            return {**config, "auth_type": "bearer"}
        config[auth_type] = urls
    elif auth_type not in ("api_key", "basic", "bearer"):
        return {**config, "auth_type": "bearer"}
    else:
        nested = own.get("api_key")
        names = ("header_name", "key_prefix")
        if isinstance(nested, Mapping) and (shape := {name: nested[name] for name in names if name in nested}):
            config["api_key"] = shape
        if key := row.parted.secrets.get("api_config.api_key.key"):
            config["api_key"] = {**config.get("api_key", {}), "key": key}
    return {**config, "auth_type": auth_type}


def _with_client(row: OldRow, config: dict[str, Any]) -> dict[str, Any]:
    """Put the old system's own client (app) into the OAuth block, and the scopes that it asked for."""
    auth_type = config["auth_type"]
    names = _CLIENT_SECRETS.get(auth_type)
    if names is None:
        return config
    block = dict(config[auth_type])
    for name, spellings in names.items():
        if value := _client_value(row, auth_type, spellings):
            block[name] = value
    nested = _own(row).get(auth_type)
    scopes = nested.get("scopes") if isinstance(nested, Mapping) else None
    if auth_type == "oauth2" and isinstance(scopes, list) and scopes:
        block["scopes"] = scopes
    return {**config, auth_type: block}


def _client_value(row: OldRow, auth_type: str, spellings: tuple[str, ...]) -> str:
    prefixes = (f"api_config.{auth_type}.", f"api_config.{auth_type}_app_credentials.", "api_config.", "")
    for prefix in prefixes:
        for name in spellings:
            if value := row.parted.secrets.get(f"{prefix}{name}"):
                return value
    for place in (_own(row).get(auth_type), _own(row), row.plain):
        for name in spellings:
            if isinstance(place, Mapping) and isinstance(place.get(name), str) and place[name]:
                return str(place[name])
    return ""


def _base_url(row: OldRow) -> str:
    url = row.text("base_url")
    try:
        api_config.parse({"base_url": url, "auth_type": "none"})
    except InvalidInput:
        return UNKNOWN_URL
    return url


def _metadata(row: OldRow) -> dict[str, Any]:
    """The old row's id and whatever else it says, for those who look for it."""
    return {"imported_from": {"table": row.table, "id": row.id, "row": row.told(but={"id"})}}
