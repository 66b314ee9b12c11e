"""What a variable of an environment is by its name: whose credential, and where its value belongs.

The catalogue's own table of names goes first, then the usual endings behind a provider's slug: ``ACME_API_KEY``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from django.conf import settings

from external_apis.catalogue import Preset, shipped

__all__ = ["Findings", "Group", "Variable", "is_own", "sort_out"]

PROVIDER_DATA = "provider_data"
# This product's own, beside `settings.SECRET_VARIABLES`, by how they begin: its sign-in, and what servers are told.
_OWN_PREFIXES = ("OIDC_", "OTEL_", "PGPASS", "POSTGRES_", "DJANGO_SECRET_KEY")
_KEYS = ("API_KEY", "SECRET_KEY", "API_TOKEN", "ACCESS_TOKEN", "BOT_TOKEN", "AUTH_TOKEN", "TOKEN", "API_SECRET", "KEY")
_CLIENT_IDS = ("CLIENT_ID", "APP_ID", "APP_KEY", "CONSUMER_KEY", "API_KEY", "KEY")
_CLIENT_SECRETS = ("CLIENT_SECRET", "APP_SECRET", "CONSUMER_SECRET", "API_SECRET", "API_SECRET_KEY", "SECRET")
_ENDINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "bearer": {"access_token": _KEYS},
    "api_key": {"api_key": _KEYS},
    "basic": {
        "username": ("USERNAME", "USER", "ACCOUNT_SID", "AUTH_ID", "KEY_ID", "API_KEY", "PUBLIC_KEY"),
        "password": ("PASSWORD", "AUTH_TOKEN", "KEY_SECRET", "API_SECRET", "SECRET_KEY"),
    },
    "oauth2": {
        "oauth2.client_id": _CLIENT_IDS,
        "oauth2.client_secret": _CLIENT_SECRETS,
        "access_token": ("ACCESS_TOKEN", "BOT_TOKEN", "AUTH_TOKEN", "TOKEN"),
        "refresh_token": ("REFRESH_TOKEN",),
    },
    "oauth1": {
        "oauth1.consumer_key": _CLIENT_IDS,
        "oauth1.consumer_secret": _CLIENT_SECRETS,
        "oauth_token": ("ACCESS_TOKEN", "OAUTH_TOKEN"),
        "oauth_token_secret": ("ACCESS_TOKEN_SECRET", "ACCESS_SECRET", "OAUTH_TOKEN_SECRET"),
    },
    "client_credentials": {"client_id": _CLIENT_IDS, "client_secret": (*_CLIENT_SECRETS, "SECRET_KEY")},
    "hmac": {"hmac_secret": ("HMAC_SECRET", "SECRET_KEY", "API_SECRET", "SECRET")},
    "aws_sigv4": {
        "access_key_id": ("ACCESS_KEY_ID",),
        "secret_access_key": ("SECRET_ACCESS_KEY",),
        "session_token": ("SESSION_TOKEN",),
    },
}
_LOOKS_SECRET = re.compile(
    r".+_(API_KEY|APIKEY|SECRET_KEY|ACCESS_KEY|ACCESS_KEY_ID|(API|ACCESS|BOT|AUTH|REFRESH|BEARER)_TOKEN|TOKEN|SECRET"
    r"|(CLIENT|APP|API|CONSUMER)_SECRET|CLIENT_ID|APP_ID|PASSWORD)"
)
_SOCIAL_CORE_ENDINGS = ("", "-oauth2", "-oauth")
_PLACEHOLDER = re.compile(r"<.*>|\*+|x{3,}|\.{3}|change[-_ ]?me|(your|my)[-_ ].*|todo|none|null", re.IGNORECASE)


@dataclass(frozen=True)
class Variable:
    """A variable with a value, and the places that the value has in the connection or the provider."""

    name: str
    value: str = field(repr=False)
    places: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Variables that belong together: they make one provider, and where they hold an account, one connection."""

    preset: Preset
    variables: tuple[Variable, ...]

    def by_place(self) -> dict[str, Variable]:
        """Return the variable of each place; the others of the same place come after it and say nothing."""
        found: dict[str, Variable] = {}
        for variable in self.variables:
            for place in variable.places:
                found.setdefault(place, variable)
        return found


@dataclass(frozen=True)
class Findings:
    """``unknown`` look like credentials of nobody in the catalogue; ``skipped`` tells of others why, by their names."""

    groups: tuple[Group, ...]
    unknown: tuple[str, ...]
    skipped: Mapping[str, str]


def sort_out(values: Mapping[str, str]) -> Findings:
    """Find the credentials among variables. This product's own are left alone, whatever they are called."""
    by_slug: dict[str, list[Variable]] = {}
    unknown: list[str] = []
    skipped: dict[str, str] = {}
    for name in sorted(values):
        place = None if is_own(name) else _place_of(name)
        if place is None:
            if is_own(name):
                skipped[name] = "is this product's own"
            elif _LOOKS_SECRET.fullmatch(name):
                unknown.append(name)
        elif not values[name].strip():
            skipped[name] = "is empty"
        elif _PLACEHOLDER.fullmatch(values[name].strip()):
            skipped[name] = "holds a placeholder"
        else:
            slug, places = place
            by_slug.setdefault(slug, []).append(Variable(name, values[name].strip(), places))
    presets = shipped()
    groups = tuple(Group(presets[slug], _in_order(presets[slug], found)) for slug, found in sorted(by_slug.items()))
    return Findings(groups, tuple(unknown), MappingProxyType(skipped))


def is_own(name: str) -> bool:
    """Whether a variable is one of this product's own, which are never imported; nor are names of files of them."""
    return name.removesuffix("_FILE") in settings.SECRET_VARIABLES or name.startswith(_OWN_PREFIXES)


def _in_order(preset: Preset, variables: list[Variable]) -> tuple[Variable, ...]:
    """The table's order, which says what goes first where two name one place; patterns come behind it."""
    order = {name: position for position, name in enumerate(preset.env)}
    return tuple(sorted(variables, key=lambda one: (order.get(one.name, len(order)), _rank(preset, one), one.name)))


def _rank(preset: Preset, variable: Variable) -> int:
    endings = _ENDINGS.get(str(preset.api_config["auth_type"]), {}).get(variable.places[0], ())
    return next((rank for rank, ending in enumerate(endings) if variable.name.endswith(f"_{ending}")), len(endings))


def _place_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    return _table().get(name) or _by_pattern(name)


@cache
def _table() -> Mapping[str, tuple[str, tuple[str, ...]]]:
    return {name: (preset.slug, places) for preset in shipped().values() for name, places in preset.env.items()}


def _by_pattern(name: str) -> tuple[str, tuple[str, ...]] | None:
    parts = name.split("_")
    # The longest slug goes first: GITHUB_APP_CLIENT_ID is of github-app.
    for length in range(len(parts) - 1, 0, -1):
        ending = "_".join(parts[length:])
        for preset in _named("-".join(parts[:length]).lower()):
            for place, endings in _ENDINGS.get(str(preset.api_config["auth_type"]), {}).items():
                if ending in endings and _has(preset, place):
                    return preset.slug, (place,)
    return None


def _named(slug: str) -> Iterator[Preset]:
    """The definitions that a name may mean: GOOGLE_CLIENT_ID is of google-oauth2."""
    for ending in _SOCIAL_CORE_ENDINGS:
        if preset := shipped().get(f"{slug}{ending}"):
            yield preset


def _has(preset: Preset, place: str) -> bool:
    """A provider that sends several keys at once has none of the usual name."""
    block = preset.api_config.get("api_key")
    headers = block.get("headers") if isinstance(block, Mapping) else None
    return not headers or place in headers.values()
