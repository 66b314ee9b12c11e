"""How names of variables belong together: the usual endings behind a provider's slug, and which names make a pair.

A pair (an app's id and secret, a user's name and password) counts only whole and only of one naming: FACEBOOK_APP_ID
goes with FACEBOOK_APP_SECRET, and not with FACEBOOK_CLIENT_SECRET, which may be another app's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from external_apis.catalogue import Preset, shipped

__all__ = ["PROVIDER_DATA", "Named", "by_pattern", "is_of_client", "rank", "settled", "url_variables"]

PROVIDER_DATA = "provider_data"
Named = tuple[str, tuple[str, ...]]
"""A name and the places of its value."""
_KEYS = ("API_KEY", "SECRET_KEY", "API_TOKEN", "ACCESS_TOKEN", "BOT_TOKEN", "AUTH_TOKEN", "TOKEN")
# Each of these counts when all of its names are there. An API_KEY alone is never a client id: many providers have API
# keys beside their OAuth clients.
_NAMINGS: Mapping[str, tuple[Mapping[str, str], ...]] = {
    "bearer": tuple({ending: "access_token"} for ending in _KEYS),
    "api_key": tuple({ending: "api_key"} for ending in _KEYS),
    "basic": (
        {"USERNAME": "username", "PASSWORD": "password"},
        {"API_KEY": "username", "API_SECRET": "password"},
    ),
    "oauth2": (
        {"CLIENT_ID": "oauth2.client_id", "CLIENT_SECRET": "oauth2.client_secret"},
        {"APP_ID": "oauth2.client_id", "APP_SECRET": "oauth2.client_secret"},
        {"ACCESS_TOKEN": "access_token"},
        {"REFRESH_TOKEN": "refresh_token"},
    ),
    "oauth1": (
        {"CONSUMER_KEY": "oauth1.consumer_key", "CONSUMER_SECRET": "oauth1.consumer_secret"},
        {"API_KEY": "oauth1.consumer_key", "API_SECRET": "oauth1.consumer_secret"},
        {"API_KEY": "oauth1.consumer_key", "API_SECRET_KEY": "oauth1.consumer_secret"},
        {"ACCESS_TOKEN": "oauth_token", "ACCESS_TOKEN_SECRET": "oauth_token_secret"},
        {"OAUTH_TOKEN": "oauth_token", "OAUTH_TOKEN_SECRET": "oauth_token_secret"},
    ),
    "client_credentials": ({"CLIENT_ID": "client_id", "CLIENT_SECRET": "client_secret"},),
    "aws_sigv4": (
        {"ACCESS_KEY_ID": "access_key_id", "SECRET_ACCESS_KEY": "secret_access_key"},
        {"SESSION_TOKEN": "session_token"},
    ),
}
_SOCIAL_CORE_ENDINGS = ("", "-oauth2", "-oauth")
# Where the usual names are of another definition than the one that is called so: Vimeo and Google have given up
# OAuth 1.0a, and X's API takes both an OAuth 2.0 client and Twitter's old consumer.
_MEANT = MappingProxyType(
    {"google": ("google-oauth2",), "twitter": ("twitter",), "vimeo": ("vimeo-oauth2",), "x": ("x", "twitter")}
)
_PART = re.compile(r"_(SECRET_KEY|SECRET|KEY|ID)$")


def by_pattern(name: str, there: Collection[str]) -> tuple[str, tuple[str, ...]] | str | None:
    """Return whose credential a name is, and the places of its value; why not where the rest of a pair is not
    ``there``; None where no pattern fits.

    A place that the catalogue names variables for is not a pattern's: `STRIPE_KEY` is not the secret key.
    """
    parts, missing = name.split("_"), ""
    # The longest slug goes first: GITHUB_APP_CLIENT_ID is of github-app.
    for length in range(len(parts) - 1, 0, -1):
        prefix, ending = "_".join(parts[:length]), "_".join(parts[length:])
        fitting = [(slug, naming) for slug, naming in _namings(prefix) if ending in naming]
        # Of a token that may be OAuth 2.0's alone or half of OAuth 1.0a's pair the pair counts.
        longest = max((len(naming) for _, naming in fitting), default=0)
        for slug, naming in [one for one in fitting if len(one[1]) == longest]:
            others = [f"{prefix}_{other}" for other in naming if f"{prefix}_{other}" not in there]
            if not others:
                return slug, (naming[ending],)
            missing = missing or " and ".join(others)
        if missing:
            return f"is half of a pair: {missing} is missing beside it"
    return None


def _namings(prefix: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The definitions that a prefix may mean, each with its namings: of GITHUB_… github, then github-oauth2.

    Only the first of them is meant by a name that stands alone: GITHUB_ACCESS_TOKEN is not of github-oauth2.
    """
    slug = prefix.lower().replace("_", "-")
    slugs = _MEANT.get(slug) or tuple(f"{slug}{ending}" for ending in _SOCIAL_CORE_ENDINGS)
    found = [preset for one in slugs if (preset := shipped().get(one)) is not None]
    for preset in found:
        named = {place for places in preset.env.values() for place in places}
        for naming in _NAMINGS.get(str(preset.api_config["auth_type"]), ()):
            if (len(naming) > 1 or preset is found[0]) and not named & {*naming.values()} and _has(preset, naming):
                yield preset.slug, naming
        if preset is found[0]:
            for variable in url_variables(preset):
                if f"{PROVIDER_DATA}.{variable}" not in named:
                    yield preset.slug, {variable.upper(): f"{PROVIDER_DATA}.{variable}"}


def _has(preset: Preset, naming: Mapping[str, str]) -> bool:
    """A provider that sends several keys at once has none of the usual name."""
    block = preset.api_config.get("api_key")
    return not (isinstance(block, Mapping) and block.get("headers") and "api_key" in naming.values())


def url_variables(preset: Preset) -> list[str]:
    """Return the names that each connection has to give for the provider's URLs."""
    declared = preset.api_config.get("url_variables") or {}
    return [name for name, rules in declared.items() if "default" not in rules]


def rank(preset: Preset, name: str) -> int:
    """Say where a name comes among the patterns of one place."""
    endings = [ending for naming in _NAMINGS.get(str(preset.api_config["auth_type"]), ()) for ending in naming]
    return next((number for number, ending in enumerate(endings) if name.endswith(f"_{ending}")), len(endings))


def settled(preset: Preset, named: Sequence[Named]) -> tuple[Sequence[Named], dict[str, str]]:
    """Return which names count for which of their places, those that go first in front, and why others do not.

    Of several namings of a client or an account the most complete one counts; of the others only what says the same
    again, so that no connection is made of two accounts.
    """
    left: dict[str, str] = {}
    for is_of_kind in (is_of_client, _is_of_account):
        named = _of_one_naming(preset, named, is_of_kind, left)
    halves = {place for _, places in named for place in filter(is_of_client, places)}
    if len(halves) == 1:
        for name, places in named:
            if halves & {*places}:
                left[name] = f"is half of a pair: {_other_half(preset, name)} is missing beside it"
    return [(name, places) for name, places in named if name not in left], left


def _of_one_naming(
    preset: Preset, named: Sequence[Named], is_of_kind: Callable[[str], bool], left: dict[str, str]
) -> Sequence[Named]:
    by_naming: dict[str, set[str]] = {}
    for name, places in named:
        for place in filter(is_of_kind, places):
            by_naming.setdefault(_naming(preset, name, place), set()).add(place)
    if len(by_naming) < 2:
        return named
    best = max(by_naming, key=lambda one: len(by_naming[one]))
    first: list[Named] = []
    again: list[Named] = []
    for name, places in named:
        foreign = {place for place in places if is_of_kind(place) and _naming(preset, name, place) != best}
        if foreign < {*places}:
            first.append((name, tuple(place for place in places if place not in foreign)))
        elif foreign <= by_naming[best]:
            again.append((name, places))
        else:
            left[name] = "may be of another account than the names that are taken"
    return first + again


def _naming(preset: Preset, name: str, place: str) -> str:
    for number, names in enumerate(preset.env_apart):
        if name in names:
            return str(number)
    return _PART.sub("", name) if is_of_client(place) else name.partition("_")[0]


def _other_half(preset: Preset, name: str) -> str:
    stem = _PART.sub("", name)
    found = [other for other in preset.env if other != name and _PART.sub("", other) == stem]
    return found[0] if found else f"the rest of {stem}"


def is_of_client(place: str) -> bool:
    """Whether a place is of a provider's own client, and not of an account."""
    return place.rpartition(".")[0] not in ("", PROVIDER_DATA)


def _is_of_account(place: str) -> bool:
    return "." not in place
