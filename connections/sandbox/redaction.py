"""Requests shown to people and tests: everything that was sent except credentials."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

from connections.sandbox.credentials import ISSUED_PREFIX, SECRETS
from connections.sandbox.request import Request

SENSITIVE = frozenset(
    {
        "access_token",
        "api_key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-amz-security-token",
        "x-api-key",
        "x-app-id",
        "x-app-key",
        "x-signature",
    }
)


def show_headers(request: Request) -> dict[str, str]:
    """Headers by name; a checked credential reads ``[checked]``, any other secret ``[redacted]``."""
    shown: dict[str, str] = {}
    for name, value in request.headers:
        text = _show(name, value, request)
        shown[name] = f"{shown[name]}, {text}" if name in shown else text
    return shown


def show_query(request: Request) -> dict[str, str | list[str]]:
    """Query parameters by name, without credentials."""
    return group((name, _show(name, value, request)) for name, value in request.pairs)


def group(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Values by name, a list where a name is repeated."""
    grouped: dict[str, str | list[str]] = {}
    for name, value in pairs:
        earlier = grouped.get(name)
        if earlier is None:
            grouped[name] = value
        else:
            grouped[name] = [*(earlier if isinstance(earlier, list) else [earlier]), value]
    return grouped


def show_target(request: Request) -> str:
    """Path and query as text, without credentials."""
    path = request.target.partition("?")[0]
    pairs = [(name, _show(name, value, request)) for name, value in request.pairs]
    return f"{path}?{urlencode(pairs, safe='[]')}" if pairs else path


def _show(name: str, value: str, request: Request) -> str:
    if name.lower() in request.checked:
        return "[checked]"
    if name.lower() in SENSITIVE or ISSUED_PREFIX in value or any(secret in value for secret in SECRETS):
        return "[redacted]"
    return value
