"""What a method of a view is: the scope it needs, its query, body and answer. It works by this and is documented by it.

``@lists("list_tenants", "tenants:read", TenantItem, TenantQuery, "List tenants")`` stands above a ``get``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from typing import Annotated, Any, Protocol, TypeVar

from django.http import QueryDict
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from external_apis.errors import InvalidInput
from external_apis.provider_input import read_body
from external_apis.query_input import DIGITS_ALONE

__all__ = [
    "CamelAnswer",
    "CamelModel",
    "Deleted",
    "Operation",
    "PageQuery",
    "Query",
    "answers",
    "deletes",
    "lists",
    "operation_of",
    "read_query",
    "reads",
    "writes",
]

_Query = TypeVar("_Query", bound="Query")
_Method = TypeVar("_Method", bound=Callable[..., Any])


class CamelModel(BaseModel):
    """A body or a query, in camelCase outside and snake_case inside. A field that is not named is refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True
    )


class CamelAnswer(CamelModel):
    """An answer, made of fields under their inner names."""

    model_config = ConfigDict(populate_by_name=True)


class Query(CamelModel):
    """The query of a method that takes none; subclasses add parameters. One that is not named is refused."""

    def filters(self) -> dict[str, Any]:
        """What was given, under the names of the fields."""
        return self.model_dump(exclude_unset=True)


class PageQuery(Query):
    """The query of a list; subclasses add their filters."""

    page: Annotated[int, Field(ge=1, le=10_000_000), DIGITS_ALONE] = 1
    """Which page, from 1."""
    per_page: Annotated[int, Field(ge=1, le=100), DIGITS_ALONE] = 20
    """How many items a page has."""

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"page", "per_page"}, exclude_unset=True)


class Deleted(CamelAnswer):
    """What is answered when something is gone."""

    id: str
    deleted: bool = True


@dataclass(frozen=True)
class Operation:
    """``scope`` None means any valid key; with ``is_open`` nobody has to authenticate."""

    name: str
    summary: str
    scope: str | None
    answer: type[BaseModel]
    query: type[Query] = Query
    body: type[BaseModel] | None = None
    status: int = 200
    is_list: bool = False
    is_open: bool = False
    failures: tuple[int, ...] = ()


class Decorator(Protocol):
    def __call__(self, method: _Method, /) -> _Method: ...


_ASKING, _FINDING, _CHANGING = (401, 403, 429, 503), (404,), (409, 413, 415)


def lists(name: str, scope: str, item: type[BaseModel], query: type[PageQuery], summary: str) -> Decorator:
    """Declare a GET that answers with a page of items."""
    return _declare(Operation(name, summary, scope, item, query, is_list=True, failures=(400, *_ASKING)))


def reads(name: str, scope: str | None, item: type[BaseModel], summary: str, query: type[Query] = Query) -> Decorator:
    """Declare a GET that answers with one thing."""
    return _declare(Operation(name, summary, scope, item, query, failures=(400, *_ASKING, *_FINDING)))


def writes(
    name: str,
    scope: str | None,
    body: type[BaseModel] | None,
    item: type[BaseModel],
    summary: str,
    *,
    query: type[Query] = Query,
    status: int = 200,
) -> Decorator:
    """Declare a method that changes something or makes something happen."""
    failures = (400, *_ASKING, *_FINDING, *_CHANGING)
    return _declare(Operation(name, summary, scope, item, query, body=body, status=status, failures=failures))


def deletes(name: str, scope: str, summary: str, query: type[Query] = Query) -> Decorator:
    """Declare a DELETE."""
    return writes(name, scope, None, Deleted, summary, query=query)


def answers(name: str, item: type[BaseModel], summary: str) -> Decorator:
    """Declare a GET for everybody."""
    return _declare(Operation(name, summary, None, item, is_open=True, failures=(400, 429, 503)))


def operation_of(method: Callable[..., Any] | None) -> Operation | None:
    """Return what a view's method was declared as."""
    return getattr(method, "operation", None)


def read_query(model: type[_Query], given: QueryDict) -> _Query:
    """Validate a query. Raises `InvalidInput` that names what is unknown, wrong or given twice."""
    for name, values in given.lists():
        if len(values) > 1:
            raise InvalidInput.of(name[:200], "is given more than once")
    return read_body(model, given.dict())


def _declare(operation: Operation) -> Decorator:
    def declare(method: _Method) -> _Method:
        failures = operation.failures
        if operation.is_list and len(signature(method).parameters) > 2:
            failures += _FINDING  # it is a list of what its path names
        method.operation = replace(operation, failures=failures)  # type: ignore[attr-defined]
        return method

    return declare
