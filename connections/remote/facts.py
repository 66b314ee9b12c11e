"""What the server tells about calling through a connection: its base URL, and how its provider gives out lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from connections.wire import pages
from connections.wire.arguments import refuse
from external_apis.errors import EgressRefused, ServiceUnavailable

__all__ = ["Facts", "Paging", "below", "paging_of", "read_facts"]


@dataclass(frozen=True, slots=True)
class Paging:
    """The fields and defaults of `external_apis.pagination_config.Pagination`, which tells what they mean."""

    style: str = ""
    items_path: str = ""
    limit: int | None = None
    limit_param: str = "limit"
    page_param: str = "page"
    first_page: int = 1
    offset_param: str = "offset"
    cursor_param: str = "cursor"
    cursor_path: str = "pagination.next_cursor"
    next_path: str = "next"
    has_more_path: str = ""
    max_pages: int = 10_000


@dataclass(frozen=True, slots=True)
class Facts:
    id: str
    name: str
    base_url: str
    base_path: str
    encoding: Literal["json", "form"]
    graphql_path: str
    paging: Paging | None


def read_facts(data: Mapping[str, Any]) -> Facts:
    """Read the answer of ``/connections/{id}/client``; raises `ServiceUnavailable` for one that makes no sense."""
    try:
        configured = data["pagination"]
        known = {field.name for field in fields(Paging)}
        return Facts(
            id=str(data["id"]),
            name=str(data["name"]),
            base_url=str(data["baseUrl"]).rstrip("/"),
            base_path=urlsplit(data["baseUrl"]).path.rstrip("/"),
            encoding="form" if data["requestEncoding"] == "form" else "json",
            graphql_path=data["graphqlPath"] or "/graphql",
            paging=Paging(**{name: value for name, value in configured.items() if name in known})
            if configured
            else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ServiceUnavailable("The server describes the connection in a way that is not understood.") from None


def paging_of(configured: Paging | None, style: str | None, changes: Mapping[str, Any]) -> Paging:
    """Return the provider's settings with those of a call in their place; raises `InvalidInput`."""
    if style is None and configured is None:
        raise refuse("style", "is needed: the provider configures no pagination")
    if unknown := changes.keys() - {field.name for field in fields(Paging)}:
        raise refuse(min(unknown), "is no setting of pagination")
    is_same = configured is not None and style in (None, configured.style)
    paging = replace(configured, **changes) if configured and is_same else Paging(**{"style": style, **changes})
    if paging.style not in pages.STYLES:
        raise refuse("style", f"is none of {', '.join(pages.STYLES)}")
    return paging


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
