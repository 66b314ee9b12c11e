"""Who may make a key with which rights, and within which bounds: nobody passes on more than they have themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from django.conf import settings

from external_apis import scopes
from external_apis.errors import Forbidden
from external_apis.key_holder import KeyHolder
from external_apis.key_input import KeyInput
from external_apis.models import ApiKey, KeyMode
from external_apis.tenancy import EVERYTHING, Scope

__all__ = ["OPERATOR", "Granter", "granter_of"]


@dataclass(frozen=True)
class Granter:
    """Somebody who makes keys, and what they may pass on. Without networks or a time they are not bound by any.

    ``rate_limit`` None is the usual one, and ``is_limited`` says whether a key may not have more than the granter.
    """

    scope: Scope = EVERYTHING
    scopes: frozenset[str] = frozenset((scopes.EVERY_SCOPE,))
    allowed_networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    rate_limit: int | None = None
    is_limited: bool = False

    def bound(self, body: KeyInput) -> None:
        """Give a key the granter's own bounds where it names none."""
        body.allowed_networks = body.allowed_networks or list(self.allowed_networks)
        body.expires_at = body.expires_at or self.expires_at
        body.rate_limit = body.rate_limit or self.rate_limit

    def require(self, key: ApiKey) -> None:
        """Raise `Forbidden`, which names the field, for a key that could do more than its maker."""
        beyond = [scope for scope in key.scopes if not scopes.grants(self.scopes, scope)]
        if beyond:
            raise Forbidden(f"You may not make a key with the scope {beyond[0]}.", details={"scopes": beyond})
        if self.scope.is_sandbox not in (None, key.mode == KeyMode.TEST):
            raise Forbidden(f"You may not make a {key.mode} key.")
        if self.allowed_networks and not _lie_within(key.allowed_networks, self.allowed_networks):
            raise _beyond("allowed_networks", f"not within your own, {', '.join(self.allowed_networks)}")
        if self.expires_at is not None and (key.expires_at is None or key.expires_at > self.expires_at):
            raise _beyond("expires_at", f"later than your own, {self.expires_at.isoformat(timespec='seconds')}")
        if self.is_limited and _limit(key.rate_limit) > _limit(self.rate_limit):
            raise _beyond("rate_limit", f"higher than your own, {_limit(self.rate_limit)} an hour")


OPERATOR = Granter()
"""Operators of the whole installation pass on whatever they like."""


def granter_of(user: Any, scope: Scope) -> Granter:
    """Return what a key's holder, or a signed-in user with this scope, may pass on.

    A user may pass on the scopes that stand for permissions that the user has, a superuser all of them. A stored key
    passes on its bounds as well.
    """
    if isinstance(user, KeyHolder):
        return Granter(
            scope,
            user.scopes,
            user.allowed_networks,
            user.expires_at,
            user.rate_limit,
            is_limited=not user.is_superuser,
        )
    if user.is_superuser:
        return Granter(scope)
    held = {name: scopes.permissions_of([name]) for name in scopes.SCOPES}
    return Granter(scope, frozenset(name for name, needed in held.items() if needed and user.has_perms(needed)))


# --- parts --------------------------------------------------------------------------------------------------------


def _limit(own: int | None) -> int:
    return own or settings.ADMIN_API_RATE_LIMIT


def _lie_within(wanted: Iterable[str], own: Iterable[str]) -> bool:
    """Whether each network is a part of one of the own; none at all is everywhere."""
    outer, inner = [ip_network(text) for text in own], [ip_network(text) for text in wanted]
    return bool(inner) and all(any(_is_part(network, one) for one in outer) for network in inner)


def _is_part(network: IPv4Network | IPv6Network, of: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv4Network) and isinstance(of, IPv4Network):
        return network.subnet_of(of)
    return isinstance(network, IPv6Network) and isinstance(of, IPv6Network) and network.subnet_of(of)


def _beyond(field: str, message: str) -> Forbidden:
    return Forbidden(
        f"You may not make this key: {field}: {message}.", details={"errors": [{"path": field, "message": message}]}
    )
