"""The settings of a walk through a list, checked without the library that checks them on the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from connections.wire import pages
from connections.wire.arguments import refuse

__all__ = ["Paging", "configured_paging", "paging_of"]

_PARAMETER = re.compile(r"[A-Za-z0-9_.$\[\]-]{1,100}")
_LONGEST_PATH = 200
_BOUNDS = {"limit": (1, 100_000), "first_page": (0, 1), "max_pages": (1, 1_000_000)}


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


_NAMES = frozenset(field.name for field in fields(Paging))


def configured_paging(data: Mapping[str, Any]) -> Paging:
    """Read what a provider configures; of a newer server's settings those that are known here."""
    return Paging(**{name: value for name, value in data.items() if name in _NAMES})


def paging_of(configured: Paging | None, style: str | None, changes: Mapping[str, Any]) -> Paging:
    """Return the provider's settings with those of a call in their place; raises `InvalidInput`."""
    if style is None and configured is None:
        raise refuse("style", "is needed: the provider configures no pagination")
    for name, value in changes.items():
        if problem := _problem(name, value):
            raise refuse(name, problem)
    is_same = configured is not None and style in (None, configured.style)
    paging = replace(configured, **changes) if configured and is_same else Paging(**{"style": style, **changes})
    if paging.style not in pages.STYLES:
        raise refuse("style", f"is none of {', '.join(pages.STYLES)}")
    return paging


def _problem(name: str, value: Any) -> str:
    if name not in _NAMES:
        return "is no setting of pagination"
    if name in _BOUNDS:
        low, high = _BOUNDS[name]
        is_number = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        is_good = is_number or (value is None and name == "limit")
        return "" if is_good else f"is not a whole number from {low} to {high}"
    if name.endswith("_param"):
        return "" if isinstance(value, str) and _PARAMETER.fullmatch(value) else "is not the name of a parameter"
    return "" if isinstance(value, str) and len(value) <= _LONGEST_PATH else "is not a path of up to 200 characters"
