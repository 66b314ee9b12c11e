"""How a provider gives out lists."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from external_apis.config_values import Block

__all__ = ["Pagination"]

_ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.$\[\]-]{1,100}$")]
_JsonPath = Annotated[str, Field(max_length=200)]


class Pagination(Block):
    """A path is dotted, and counts into arrays: ``pagination.next``, ``data.-1.id``."""

    style: Literal["page", "offset", "cursor", "link", "next_url"]
    items_path: _JsonPath = ""
    """Where the items stand; empty finds a bare array, or one of the usual names such as ``data``."""
    limit: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Items a page; without it ``page`` and ``offset`` ask for 100, the others for what the provider likes."""
    limit_param: _ParameterName = "limit"
    page_param: _ParameterName = "page"
    first_page: Annotated[int, Field(ge=0, le=1)] = 1
    offset_param: _ParameterName = "offset"
    cursor_param: _ParameterName = "cursor"
    cursor_path: _JsonPath = "pagination.next_cursor"
    next_path: _JsonPath = "next"
    has_more_path: _JsonPath = ""
    """What stands there says whether another page follows."""
    max_pages: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """A list that goes on longer is an error."""
