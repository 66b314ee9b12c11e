"""What a key may be allowed to do: the scopes, and what each means among Django's model permissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.conf import settings

from external_apis.errors import InvalidInput

__all__ = ["EVERY_SCOPE", "SCOPES", "check_scopes", "grants", "permissions_of"]

EVERY_SCOPE = "*"

SCOPES: Mapping[str, str] = {
    EVERY_SCOPE: "Everything below, and what later versions add.",
    "providers:read": "See providers.",
    "providers:write": "Create, change and delete providers.",
    "connections:read": "See connections, never their credentials.",
    "connections:write": "Create, change, test, refresh, revoke and delete connections.",
    "credentials:read": "Read credentials in clear; each reading is in the audit log.",
    "proxy": "Call providers through connections.",
    "services:read": "See services of the External Service API.",
    "services:write": "Create, change and delete services, and set their credentials.",
    "tenants:read": "See tenants and partners.",
    "tenants:write": "Create, change and delete tenants and partners.",
    "keys:read": "See API keys, never the keys themselves.",
    "keys:write": "Create, rename, roll, revoke and delete API keys, with no more rights than one's own.",
    "users:read": "See users, their plans, tokens and sessions.",
    "users:write": "Change users' plans and tokens, end sessions, delete users.",
    "models:read": "See AI models.",
    "models:write": "Create, change, reorder and delete AI models.",
    "affiliates:read": "See affiliates.",
    "affiliates:write": "Delete affiliates.",
    "withdrawals:read": "See withdrawal requests.",
    "withdrawals:write": "Decide withdrawal requests.",
    "analytics:read": "See statistics.",
    "content:read": "See blogs, feature requests and contact messages.",
    "content:write": "Change blogs, feature requests and contact messages.",
    "webhooks:read": "See webhooks and their deliveries.",
    "webhooks:write": "Change webhooks and replay deliveries.",
    "workflows:read": "See workflows and their runs.",
    "workflows:write": "Start, cancel and retry workflows, and take what they hand over.",
    "system:read": "Run the read-only self-tests.",
    "system:write": "Run all system tests, clear caches.",
    "audit:read": "Read the audit log.",
}
"""Each scope and what it allows. Writing does not include reading."""

_READ, _WRITE = ("view",), ("add", "change", "delete")
_MODELS: Mapping[str, tuple[str, ...]] = {
    "providers": ("external_apis.{}_externalapi",),
    "connections": ("connections.{}_externalapiconnection",),
    "tenants": ("external_apis.{}_tenant", "external_apis.{}_partner"),
    "keys": ("external_apis.{}_apikey",),
    "users": (
        "external_apis.{}_account",
        "backoffice.{}_plan",
        "backoffice.{}_tokenchange",
        "backoffice.{}_usersession",
    ),
    "audit": ("external_apis.{}_auditevent",),
    "models": ("backoffice.{}_aimodel",),
    "content": ("backoffice.{}_blog", "backoffice.{}_featurerequest", "backoffice.{}_contactmessage"),
    "webhooks": ("connections.{}_webhookendpoint", "connections.{}_webhookevent", "connections.{}_webhookrefusal"),
    "workflows": ("connections.{}_workflowrun",),
    "affiliates": ("backoffice.{}_affiliate",),
    "withdrawals": ("backoffice.{}_withdrawal",),
    "analytics": ("backoffice.{}_overviewsum",),
}


def check_scopes(scopes: Iterable[str]) -> list[str]:
    """Return scopes in order and once each. Raises `InvalidInput` that names one that does not exist."""
    unique = sorted(set(scopes))
    unknown = [scope for scope in unique if scope not in SCOPES]
    if unknown:
        message = f"there is no scope {unknown[0][:60]!a}"
        raise InvalidInput.of("scopes", message)
    return unique


def grants(held: frozenset[str], scope: str) -> bool:
    """Whether somebody with the scopes ``held`` has ``scope``."""
    return scope in held or EVERY_SCOPE in held


def permissions_of(scopes: Iterable[str]) -> frozenset[str]:
    """Return Django's model permissions (``app_label.codename``) that the scopes stand for."""
    names = set(scopes)
    found = {permission for scope in names for permission in _PERMISSIONS.get(scope, ())}
    if "users:write" in names:  # Django's user, or the project's own, goes with the account
        app_label, _, model = settings.AUTH_USER_MODEL.partition(".")
        found.add(f"{app_label}.delete_{model.lower()}")
    return frozenset(found)


_PERMISSIONS: Mapping[str, tuple[str, ...]] = {
    f"{group}:{kind}": tuple(name.format(action) for name in names for action in actions)
    for group, names in _MODELS.items()
    for kind, actions in (("read", _READ), ("write", _WRITE))
}
