"""Lists: ``limit`` and ``offset`` in the query, the total in a header, a bare array as body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from django.db import models
from pydantic import BaseModel, ConfigDict, Field

from external_apis.paging import recent_total, rows_between
from external_apis.query_input import DIGITS_ALONE

TOTAL_HEADER = "X-Total-Count"
_Model = TypeVar("_Model", bound=models.Model)


class PageQuery(BaseModel):
    """The query of a list; subclasses add their filters. A parameter that is not named here is refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    limit: Annotated[int, Field(ge=1, le=1000), DIGITS_ALONE] = 50
    """How many items to return."""
    offset: Annotated[int, Field(ge=0, le=1_000_000), DIGITS_ALONE] = 0
    """How many items to leave out first."""

    def filters(self) -> dict[str, Any]:
        """What was given beside the page itself."""
        given: dict[str, Any] = self.model_dump(exclude={"limit", "offset"}, exclude_unset=True)
        return given


def page_of(rows: models.QuerySet[_Model], query: PageQuery) -> list[_Model]:
    """Return the rows of the page."""
    return rows_between(rows, query.offset, query.limit)


def total_header(rows: models.QuerySet[Any], query: PageQuery, page: Sequence[Any]) -> Mapping[str, str]:
    """Return the header with the number of rows, at most 5 s old; the last page tells it without counting."""
    is_last = len(page) < query.limit and (page or not query.offset)
    return {TOTAL_HEADER: str(query.offset + len(page) if is_last else recent_total(rows))}
