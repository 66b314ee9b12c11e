"""How a failed request is answered: one JSON shape under the API's paths, Django's plain pages elsewhere.

``{"error": {"code", "message", "details"}}`` is the body of every error of seed 000's management REST. Exceptions that
nobody planned are answered by `server_error` with the request id alone; their traceback goes to the log.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import redis
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.html import format_html
from django.views import csrf, defaults
from rest_framework.exceptions import APIException
from rest_framework.response import Response

from external_apis import request_context, valkey
from external_apis.errors import ApiManagerError, NotFound, PayloadTooLarge, RateLimited, ServiceUnavailable

JSON_PREFIXES = ("/admin/external-apis", "/api/", "/healthz")
"""Paths under which errors are JSON, whatever the client says it accepts."""

_PAGE = """<!doctype html>
<html lang="en">
<head><title>{title}</title></head>
<body><h1>{title}</h1><p>{message}</p></body>
</html>
"""
_RETRY_AFTER_SECONDS = 5
_CODES = {
    400: "VALIDATION_ERROR",
    401: "NOT_AUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    411: "LENGTH_REQUIRED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "RATE_LIMIT_EXCEEDED",
}


@dataclass(frozen=True)
class ErrorAnswer:
    """A status, the parts of the body, and headers."""

    status: int
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "details": dict(self.details)}}


def describe(exception: BaseException | None) -> ErrorAnswer | None:
    """Return the answer to an exception that we, Django, DRF, the database or Valkey raise on purpose, else None."""
    if isinstance(exception, OperationalError | InterfaceError):
        # Its own text names hosts and roles.
        exception = ServiceUnavailable("The database is unavailable.")
    elif isinstance(exception, redis.RedisError):
        exception = ServiceUnavailable(valkey.UNAVAILABLE)
    elif isinstance(exception, RequestDataTooBig):
        exception = PayloadTooLarge("The body is too large.")
    if isinstance(exception, ApiManagerError):
        return _of_ours(exception)
    if isinstance(exception, APIException):
        return _answer(exception.status_code, str(exception.detail))
    if isinstance(exception, Http404):
        return _of_ours(NotFound("There is nothing at this address."))
    if isinstance(exception, PermissionDenied):
        return _answer(403, str(exception) or "You may not do this.")
    return None


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler; what it does not know (None) reaches `server_error` by way of Django."""
    answer = describe(exception)
    if answer is None:
        return None
    headers = {**answer.headers}
    if allowed := getattr(context.get("view"), "allowed_methods", None):
        headers |= {"Allow": ", ".join(allowed)} if answer.status == 405 else {}
    return Response(answer.body, status=answer.status, headers=headers)


# --- Django's own error views, named in config.urls and settings --------------------------------------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Suspicious requests: a host that is not ours, too many fields, a malformed or oversized body."""
    answer = describe(exception) or _answer(400, "The request is malformed.")
    if _is_api(request):
        return _json(answer)
    return _page(answer) if answer.status != 400 else defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _json(describe(exception) or _answer(403, "You may not do this."))
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _json(_of_ours(NotFound("There is nothing at this address.")))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Whatever a view or a middleware raised: a known error in its own status, an outage as 503, else 500."""
    answer = describe(sys.exc_info()[1])
    if answer is None:
        details = {"request_id": request_context.current().request_id}
        answer = ErrorAnswer(500, ApiManagerError.code, "Something went wrong on our side.", details)
    if _is_api(request):
        return _json(answer)
    if answer.status == 500:
        return defaults.server_error(request)
    return _page(answer)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if _is_api(request):
        return _json(_answer(403, f"CSRF Failed: {reason}"))
    return csrf.csrf_failure(request, reason)


def unknown_route(request: HttpRequest) -> HttpResponse:
    """Stands behind the API's routes, where the admin's catch-all would answer with its log-in page."""
    return _json(_of_ours(NotFound("There is nothing at this address.")))


# --- parts --------------------------------------------------------------------------------------------------------


def _of_ours(error: ApiManagerError) -> ErrorAnswer:
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, RateLimited):
        headers["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
    elif isinstance(error, ServiceUnavailable):
        headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return ErrorAnswer(error.status, error.code, error.message, error.details, headers)


def _answer(status: int, message: str) -> ErrorAnswer:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return ErrorAnswer(status, _CODES.get(status, "REQUEST_FAILED"), message, {}, headers)


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith(JSON_PREFIXES)


def _json(answer: ErrorAnswer) -> HttpResponse:
    return JsonResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def _page(answer: ErrorAnswer) -> HttpResponse:
    # No template and no context: either might want the database that is away.
    title = HTTPStatus(answer.status).phrase
    body = format_html(_PAGE, title=title, message=answer.message)
    return HttpResponse(body, status=answer.status, headers=dict(answer.headers))
