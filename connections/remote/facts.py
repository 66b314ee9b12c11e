"""What the server tells about calling through a connection: its base URL, and how its provider gives out lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from connections.remote.paging import Paging, configured_paging
from external_apis.errors import EgressRefused, ServiceUnavailable

__all__ = ["Facts", "below", "read_facts"]


@dataclass(frozen=True, slots=True)
class Facts:
    """``variables`` are those that a path may hold in braces; one without a value is missing in the connection."""

    id: str
    name: str
    base_url: str
    base_path: str
    encoding: Literal["json", "form"]
    graphql_path: str
    paging: Paging | None
    variables: Mapping[str, str | None]


def read_facts(data: Mapping[str, Any]) -> Facts:
    """Read the answer of ``/connections/{id}/client``; raises `ServiceUnavailable` for one that makes no sense."""
    try:
        return Facts(
            id=str(data["id"]),
            name=str(data["name"]),
            base_url=str(data["baseUrl"]).rstrip("/"),
            base_path=urlsplit(data["baseUrl"]).path.rstrip("/"),
            encoding="form" if data["requestEncoding"] == "form" else "json",
            graphql_path=data["graphqlPath"] or "/graphql",
            paging=configured_paging(data["pagination"]) if data["pagination"] else None,
            variables=dict(data.get("urlVariables") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ServiceUnavailable("The server describes the connection in a way that is not understood.") from None


def below(url: str, facts: Facts) -> str:
    """Return a URL's path and query below the base URL; raises `EgressRefused` for one that is not there."""
    try:
        asked, home = urlsplit(url), urlsplit(facts.base_url)
        is_home = (asked.scheme, asked.hostname, _port(asked)) == (home.scheme, home.hostname, _port(home))
    except ValueError:
        raise EgressRefused("The address that the provider named is not a URL.") from None
    path = asked.path or "/"
    if not is_home or asked.username is not None:
        raise EgressRefused(f"{asked.hostname} is refused: the provider's own origin is {home.scheme}://{home.netloc}.")
    if not f"{path}/".startswith(f"{facts.base_path}/"):
        raise EgressRefused("The address that the provider named is not below its base URL, where the gateway ends.")
    below = path.removeprefix(facts.base_path) or "/"
    return f"{below}?{asked.query}" if asked.query else below


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
