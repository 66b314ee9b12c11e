"""The OpenAPI document of ``/exsvc``, made of what the methods are declared as."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from pydantic import BaseModel

from external_apis.admin_api.operations import Operation, operation_of
from external_apis.query_schema import query_parameters
from external_apis.scopes import SCOPES

__all__ = ["DOCUMENT", "ServiceSchema"]

DOCUMENT = {
    "TITLE": "External Service API",
    "DESCRIPTION": "A registry of external services, and the credentials that each tenant has for them.",
    "VERSION": "1.0",
    "POSTPROCESSING_HOOKS": [],
}
"""Settings of the document that holds this API alone."""


class ServiceFailureFacts(BaseModel):
    code: str
    message: str
    details: dict[str, Any]


class ServiceFailure(BaseModel):
    """Every error has this shape. `details.reason` is a finer code where one status has several causes."""

    error: ServiceFailureFacts


_FAILURES = {
    400: "`INVALID_REQUEST`: the body or the query is wrong; `details.errors` names the fields.",
    401: "`UNAUTHORIZED`: no token, or one that is not valid or has expired.",
    403: "`FORBIDDEN`: the token lacks the scope, or the service belongs to the whole installation.",
    404: "`SERVICE_NOT_FOUND`: there is no such service, or none that the tenant may see; or it has no credentials.",
    409: "`SERVICE_ALREADY_EXISTS`: the tenant has one with this name.",
    413: "`PAYLOAD_TOO_LARGE`",
    415: "`UNSUPPORTED_MEDIA_TYPE`: the body is not JSON.",
    429: "`RATE_LIMIT_EXCEEDED`: `Retry-After` tells when to come again.",
    500: "`INTERNAL_ERROR`",
    503: "`SERVICE_UNAVAILABLE`: the database or the issuer's keys are away.",
}
_LIMIT_HEADERS = {
    "X-RateLimit-Limit": "Requests a minute of this tenant; requests an hour of this address where nobody is known.",
    "X-RateLimit-Remaining": "How many of them could be made at once now.",
    "X-RateLimit-Reset": "When all of them could be made again, in seconds since 1970.",
}


class ServiceTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "connections.service_api.authentication.ServiceAuthentication"
    name = "serviceToken"
    priority = 1  # before the one of the class that it is made from

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        description = "A JWT of ours or of a trusted outside issuer, a secret API key, or `ADMIN_API_KEY`."
        return {"type": "http", "scheme": "bearer", "description": description}


class ServiceSchema(AutoSchema):
    """Asks the view's methods what they are."""

    def get_operation_id(self) -> str:
        return self._operation.name

    def get_summary(self) -> str:
        return self._operation.summary

    def get_description(self) -> str:  # type: ignore[override]  # DRF's own takes arguments, drf-spectacular's none
        scope = self._operation.scope
        return "Needs any valid token." if scope is None else f"Needs the scope `{scope}`: {SCOPES[scope]}"

    def get_tags(self) -> list[str]:
        return ["debug" if "/debug/" in self.path else "credentials" if "/credentials" in self.path else "services"]

    def get_auth(self) -> list[dict[str, list[str]]]:
        """Name the scope beside the way to authenticate."""
        scopes = [self._operation.scope] if self._operation.scope else []
        return [dict.fromkeys(way, scopes) for way in super().get_auth()]

    def get_request_serializer(self) -> Any:
        return self._operation.body

    def get_response_serializers(self) -> Any:
        failures = {status: OpenApiResponse(ServiceFailure, _FAILURES[status]) for status in self._failures}
        return {self._operation.status: self._operation.answer, **failures}

    def get_override_parameters(self) -> list[Any]:
        statuses = [self._operation.status, *self._failures]
        headers = [
            OpenApiParameter(name, int, OpenApiParameter.HEADER, response=statuses, description=description)
            for name, description in _LIMIT_HEADERS.items()
        ]
        return [*headers, *query_parameters(self._operation.query, ("limit", "offset"))]

    @property
    def _failures(self) -> list[int]:
        is_about_one = "{" in self.path
        return [
            status
            for status in _FAILURES
            if (status != 404 or is_about_one) and (status not in (409, 413, 415) or self._operation.body is not None)
        ]

    @property
    def _operation(self) -> Operation:
        operation = operation_of(getattr(self.view, self.method.lower()))
        if operation is None:
            raise TypeError(f"{self.method} {self.path} is not declared")
        return operation
