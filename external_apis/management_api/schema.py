"""What OpenAPI says of the management REST beyond what the code says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel

from external_apis.api_config import ApiConfig
from external_apis.management_api.paging import TOTAL_HEADER, PageQuery
from external_apis.provider_input import ProviderInput
from external_apis.query_schema import query_parameters
from external_apis.scopes import SCOPES


class ErrorBody(BaseModel):
    code: str
    message: str
    details: dict[str, Any]


class Error(BaseModel):
    """Every error has this shape."""

    error: ErrorBody


class NewProvider(ProviderInput):
    """Body that makes a provider; secrets go in plain keys (``client_secret``, ``key``) and are stored encrypted."""

    api_config: ApiConfig  # type: ignore[assignment]


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "external_apis.authentication.BearerAuthentication"
    match_subclasses = True
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        scopes = "\n".join(f"- `{scope}`: {meaning}" for scope, meaning in SCOPES.items())
        description = (
            "The installation's `ADMIN_API_KEY`, a secret API key (`sk_live_`, `sk_test_`), or a JWT that was made "
            f"from one. A key has scopes:\n\n{scopes}"
        )
        return {"type": "http", "scheme": "bearer", "description": description}


class AnyKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "external_apis.authentication.AnyKeyOrSessionAuthentication"
    name = "anyKey"
    priority = 1  # before the one of the class that it is made from

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        description = "What `apiKey` takes, or a publishable key (`pk_live_`, `pk_test_`) of the tenant."
        return {"type": "http", "scheme": "bearer", "description": description}


class StaffSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "external_apis.authentication.StaffSessionAuthentication"
    name = "staffSession"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The admin's session; unsafe methods send the CSRF token in `X-CSRFToken` as well.",
        }


_View = TypeVar("_View", bound=Callable[..., Any])


class Decorator(Protocol):
    def __call__(self, view: _View, /) -> _View: ...


_FAILURES = {
    400: "The body or the query is wrong; `details.errors` names the fields.",
    401: "Not authenticated.",
    403: "Not permitted.",
    404: "There is no such row, or none that the asker may see.",
    409: "It collides with what is stored.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests; `Retry-After` tells when to come again.",
    503: "The database or Valkey is away.",
}
_READING = (401, 403, 404, 503)
_WRITING = (400, 401, 403, 404, 409, 413, 415, 503)


def lists(operation: str, items: type[BaseModel], query: type[PageQuery], summary: str) -> Decorator:
    """Document a GET that returns a page as a bare array."""
    total = OpenApiParameter(TOTAL_HEADER, int, OpenApiParameter.HEADER, response=[200], description="Number of rows.")
    return extend_schema(
        operation_id=operation,
        tags=_tag(operation),
        summary=summary,
        description=f"The body is a bare array; the number of all rows, at most 5 s old, is in {TOTAL_HEADER}.",
        parameters=[total, *query_parameters(query, PageQuery.model_fields)],
        responses={200: items, **_failures((400, *_READING))},
    )


def reads(
    operation: str, detail: type[BaseModel], summary: str, note: str = "", failures: tuple[int, ...] = ()
) -> Decorator:
    """Document a GET that returns one thing; ``note`` and ``failures`` are what it has beside all others."""
    description = "A slug does as well as an id. No secret is shown: `name_encrypted` holds facts about one."
    return extend_schema(
        operation_id=operation,
        tags=_tag(operation),
        summary=summary,
        description=f"{description} {note}".strip(),
        responses={200: detail, **_failures((*_READING, *failures))},
    )


def writes(
    operation: str, body: type[BaseModel] | None, detail: type[BaseModel], summary: str, status: int = 200
) -> Decorator:
    return extend_schema(
        operation_id=operation,
        tags=_tag(operation),
        summary=summary,
        description="Needs a bearer key, or a session and its CSRF token. A slug does as well as an id.",
        request=body,
        responses={status: detail, **_failures(_WRITING)},
    )


def redirects(operation: str, query: type[BaseModel], detail: type[BaseModel], summary: str) -> Decorator:
    """Document a GET that sends a browser to another address."""
    return extend_schema(
        operation_id=operation,
        tags=_tag(operation),
        summary=summary,
        description="Needs a bearer key or a session. The address stands in `Location` and in the body.",
        parameters=query_parameters(query, PageQuery.model_fields),
        responses={302: detail, **_failures((400, *_READING, 409))},
    )


def deletes(operation: str, summary: str) -> Decorator:
    description = "The row stays in the database, without effect, until it is restored or purged."
    return extend_schema(
        operation_id=operation,
        tags=_tag(operation),
        summary=summary,
        description=description,
        responses={204: None, **_failures(_READING)},
    )


def _tag(operation: str) -> list[str]:
    """Group operations by what they are about: ``list_providers`` and ``get_provider`` by ``providers``."""
    return [operation.partition("_")[2].removesuffix("s") + "s"]


def _failures(statuses: tuple[int, ...]) -> Mapping[int, OpenApiResponse]:
    return {status: OpenApiResponse(Error, _FAILURES[status]) for status in statuses}
