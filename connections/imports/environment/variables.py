"""What a variable of an environment is by its name: whose credential, and where its value belongs.

The catalogue's own table of names goes first, then the usual endings behind a provider's slug (`naming`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

from django.conf import settings

from connections.imports.any_text import is_text
from connections.imports.environment.left import LEFT
from connections.imports.environment.naming import by_pattern, rank, settled
from external_apis.catalogue import Preset, shipped

__all__ = ["Findings", "Group", "Variable", "is_own", "sort_out"]

# This product's own, beside `settings.SECRET_VARIABLES`, by how they begin: its sign-in, and what servers are told.
_OWN_PREFIXES = ("OIDC_", "OTEL_", "PGPASS", "POSTGRES_", "DJANGO_SECRET_KEY")
_LOOKS_SECRET = re.compile(r"[A-Za-z0-9_.]+_(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|CLIENT_ID|APP_ID|KEY_ID|WEBHOOK_URL)")
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[^\s/@:]*:[^\s/@]+@", re.IGNORECASE)
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
    """``unknown`` look like credentials, and nothing here has a place for them; ``skipped`` tells of others why they
    are not taken, by their names."""

    groups: tuple[Group, ...]
    unknown: tuple[str, ...]
    skipped: Mapping[str, str]


def sort_out(values: Mapping[str, str]) -> Findings:
    """Find the credentials among variables. This product's own are left alone, whatever they are called.

    Where it is in doubt what a variable is, or whose, it is left alone, too: an import into the wrong place would look
    like one into the right place.
    """
    by_slug: dict[str, list[Variable]] = {}
    unknown: list[str] = []
    reasons = {name: _reason_to_skip(name, values[name]) for name in sorted(values)}
    skipped = {name: reason for name, reason in reasons.items() if reason and _is_of_interest(name, values)}
    present = {name: values[name].strip() for name, reason in reasons.items() if not reason}
    for name, value in present.items():
        found = _table().get(name) or by_pattern(name, present)
        if isinstance(found, str):
            skipped[name] = found
        elif found is not None:
            by_slug.setdefault(found[0], []).append(Variable(name, value, found[1]))
        elif _LOOKS_SECRET.fullmatch(name) or _URL_WITH_PASSWORD.match(value):
            unknown.append(name)
    groups = []
    for slug, variables in sorted(by_slug.items()):
        preset = shipped()[slug]
        taken, left = settled(preset, [(one.name, one.places) for one in _in_order(preset, variables)])
        skipped |= left
        by_name = {one.name: one for one in variables}
        if taken:
            groups.append(Group(preset, tuple(replace(by_name[name], places=places) for name, places in taken)))
    return Findings(tuple(groups), tuple(unknown), MappingProxyType(dict(sorted(skipped.items()))))


def _reason_to_skip(name: str, value: str) -> str:
    if is_own(name):
        return "is this product's own"
    if name in LEFT:
        return LEFT[name]
    if not (is_text(name) and is_text(value)):
        return "is not text in UTF-8"
    if not value.strip():
        return "is empty"
    return "holds a placeholder" if _PLACEHOLDER.fullmatch(value.strip()) else ""


def _is_of_interest(name: str, values: Mapping[str, str]) -> bool:
    if is_own(name) or name in LEFT or name in _table() or _LOOKS_SECRET.fullmatch(name):
        return True
    return by_pattern(name, values) is not None


def is_own(name: str) -> bool:
    """Whether a variable is one of this product's own, which are never imported; nor are names of files of them."""
    return name.removesuffix("_FILE") in settings.SECRET_VARIABLES or name.startswith(_OWN_PREFIXES)


def _in_order(preset: Preset, variables: list[Variable]) -> tuple[Variable, ...]:
    """The table's order, which says what goes first where two name one place; patterns come behind it."""
    order = {name: position for position, name in enumerate(preset.env)}
    return tuple(sorted(variables, key=lambda one: (order.get(one.name, len(order)), rank(preset, one.name), one.name)))


@cache
def _table() -> Mapping[str, tuple[str, tuple[str, ...]]]:
    return {name: (preset.slug, places) for preset in shipped().values() for name, places in preset.env.items()}
