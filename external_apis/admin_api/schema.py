"""The OpenAPI document of ``/api/external``, made of what the methods are declared as."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from pydantic import BaseModel, create_model

from external_apis.admin_api.operations import CamelAnswer, Operation, PageQuery, operation_of
from external_apis.json_output import Timestamp
from external_apis.query_schema import query_parameters
from external_apis.scopes import SCOPES


class EnvelopeMeta(CamelAnswer):
    timestamp: Timestamp
    request_id: str


class EnvelopePages(CamelAnswer):
    page: int
    per_page: int
    total: int
    """At most 5 s old."""
    total_pages: int
    has_next: bool
    has_prev: bool


class EnvelopeError(CamelAnswer):
    code: str
    message: str
    details: dict[str, Any]


class EnvelopeFailure(CamelAnswer):
    """Every error has this shape."""

    success: Literal[False]
    error: EnvelopeError
    meta: EnvelopeMeta


BEARER_SCHEME = "apiKey"
_FAILURES = {
    400: "`VALIDATION_ERROR`: the body or the query is wrong; `details.errors` names the fields.",
    401: "`MISSING_AUTH_HEADER`, `INVALID_AUTH_SCHEME`, `INVALID_API_KEY`, `TOKEN_EXPIRED` or `INVALID_TOKEN`.",
    403: "`FORBIDDEN`: the key lacks the scope, or the row belongs to the whole installation.",
    404: "`NOT_FOUND`: there is no such row, or none that the key may see.",
    409: "`CONFLICT`: it collides with what is stored.",
    413: "`PAYLOAD_TOO_LARGE`",
    415: "`UNSUPPORTED_MEDIA_TYPE`: the body is not JSON.",
    429: "`RATE_LIMIT_EXCEEDED`: `details.resetAt` and `Retry-After` tell when to come again.",
    503: "`SERVICE_UNAVAILABLE`, or `API_KEY_NOT_CONFIGURED` where there is no key at all.",
}
_LIMIT_HEADERS = {
    "X-RateLimit-Limit": "Requests an hour of this key, or of this address where no key was accepted.",
    "X-RateLimit-Remaining": "How many of them could be made at once now.",
    "X-RateLimit-Reset": "When all of them could be made again, in seconds since 1970.",
}


class ResourceSchema(AutoSchema):
    """Asks the view's methods what they are."""

    def get_operation_id(self) -> str:
        return self._operation.name

    def get_summary(self) -> str:
        return self._operation.summary

    def get_description(self) -> str:  # type: ignore[override]  # DRF's own takes arguments, drf-spectacular's none
        operation = self._operation
        if operation.is_open:
            return "Needs no key."
        if operation.scope is None:
            return "Needs a key of any scope."
        return f"Needs the scope `{operation.scope}`: {SCOPES[operation.scope]}"

    def get_tags(self) -> list[str]:
        return [self.path.removeprefix("/api/external/").partition("/")[0]]

    def get_auth(self) -> list[dict[str, list[str]]]:
        """Name the scope beside the scheme, which the management REST describes."""
        if self._operation.is_open:
            return [{}]
        scopes = [self._operation.scope] if self._operation.scope else []
        return [{BEARER_SCHEME: scopes}]

    def get_request_serializer(self) -> Any:
        return self._operation.body

    def get_response_serializers(self) -> Any:
        operation = self._operation
        told = sorted(operation.failures)
        failures = {status: OpenApiResponse(EnvelopeFailure, _FAILURES[status]) for status in told}
        return {operation.status: _enveloped(operation.answer, operation.is_list), **failures}

    def get_override_parameters(self) -> list[Any]:
        operation = self._operation
        statuses = [operation.status, *operation.failures]
        headers = [
            OpenApiParameter(name, int, OpenApiParameter.HEADER, response=statuses, description=description)
            for name, description in _LIMIT_HEADERS.items()
        ]
        return [*headers, *query_parameters(operation.query, PageQuery.model_fields if operation.is_list else None)]

    @property
    def _operation(self) -> Operation:
        operation = operation_of(getattr(self.view, self.method.lower()))
        if operation is None:
            raise TypeError(f"{self.method} {self.path} is not declared")
        return operation


@cache
def _enveloped(item: type[BaseModel], is_list: bool) -> type[BaseModel]:
    """Return the model of an answer: the item, or a page of items, in the envelope."""
    fields: dict[str, Any] = {"success": (Literal[True], ...), "data": (list[item] if is_list else item, ...)}  # type: ignore[valid-type]
    fields["meta"] = (EnvelopeMeta, ...)
    if is_list:
        fields["pagination"] = (EnvelopePages, ...)
    name = f"{item.__name__}{'Page' if is_list else 'Answer'}"
    return create_model(name, __base__=CamelAnswer, __doc__=f"{item.__name__} in the envelope.", **fields)
