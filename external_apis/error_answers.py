"""How a failed request is answered: in JSON under the APIs' paths, with Django's plain pages elsewhere.

Which prefix has which shape stands in `SHAPES`: ``{"error": {"code", "message", "details"}}`` is that of seeds 000
and 002, the envelope that of seed 001. Exceptions that nobody planned are answered by `server_error` with the request
id alone; their traceback goes to the log.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import redis
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.html import format_html
from django.views import csrf, defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import APIException
from rest_framework.response import Response

from external_apis import envelope, request_context, valkey
from external_apis.errors import ApiManagerError, NotFound, PayloadTooLarge, RateLimited, ServiceUnavailable

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
_SERVICE_CODES = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "SERVICE_NOT_FOUND",
    409: "SERVICE_ALREADY_EXISTS",
    500: "INTERNAL_ERROR",
}


@dataclass(frozen=True)
class ErrorAnswer:
    """A status, the parts of the body, and headers."""

    status: int
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def plain_body(answer: ErrorAnswer) -> dict[str, Any]:
    return {"error": {"code": answer.code, "message": answer.message, "details": dict(answer.details)}}


def enveloped_body(answer: ErrorAnswer) -> dict[str, Any]:
    return envelope.failure(answer.code, answer.message, answer.details)


def service_body(answer: ErrorAnswer) -> dict[str, Any]:
    """Seed 002 has one code for each status; what tells more stands in ``details.reason``."""
    code = _SERVICE_CODES.get(answer.status, answer.code)
    reason = {} if code == answer.code else {"reason": answer.code}
    return {"error": {"code": code, "message": answer.message, "details": {**reason, **answer.details}}}


Shape = Callable[[ErrorAnswer], dict[str, Any]]

SHAPES: tuple[tuple[str, Shape], ...] = (
    ("/admin/external-apis", plain_body),
    ("/api/external", enveloped_body),
    ("/api", plain_body),
    ("/exsvc", service_body),
    ("/healthz", plain_body),
)
"""Paths under which errors are JSON, whatever the client says it accepts. The first that fits counts."""


def shape_of(path: str) -> Shape | None:
    """Return the shape of a path's errors, None where a person sees them in a browser."""
    return next((shape for prefix, shape in SHAPES if path == prefix or path.startswith(f"{prefix}/")), None)


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
        return _NO_ROUTE
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
    shape = shape_of(context["request"].path) or plain_body
    return Response(shape(answer), status=answer.status, headers=headers)


# --- Django's own error views, named in config.urls and settings --------------------------------------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Suspicious requests: a host that is not ours, too many fields, a malformed or oversized body."""
    answer = describe(exception) or _answer(400, "The request is malformed.")
    if answer.status == 400:
        return _json(request, answer) or defaults.bad_request(request, exception)
    return _json(request, answer) or _page(answer)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    answer = describe(exception) or _answer(403, "You may not do this.")
    return _json(request, answer) or defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _json(request, _NO_ROUTE) or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Whatever a view or a middleware raised: a known error in its own status, an outage as 503, else 500."""
    answer = describe(sys.exc_info()[1])
    if answer is None:
        details = {"request_id": request_context.current().request_id}
        answer = ErrorAnswer(500, ApiManagerError.code, "Something went wrong on our side.", details)
    return _json(request, answer) or (defaults.server_error(request) if answer.status == 500 else _page(answer))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _json(request, _answer(403, f"CSRF Failed: {reason}")) or csrf.csrf_failure(request, reason)


@csrf_exempt
def unknown_route(request: HttpRequest) -> HttpResponse:
    """Stands behind the API's routes, where the admin's catch-all would answer with its log-in page."""
    return respond(request, NotFound(_NO_ROUTE.message))


def respond(request: HttpRequest, error: ApiManagerError) -> HttpResponse:
    """Answer an error of ours outside of a view."""
    answer = _of_ours(error)
    return _json(request, answer) or _page(answer)


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


_NO_ROUTE = _of_ours(NotFound("There is nothing at this address."))


def _json(request: HttpRequest, answer: ErrorAnswer) -> HttpResponse | None:
    """Return the answer in the shape of its path, None for a page."""
    shape = shape_of(request.path)
    return shape and JsonResponse(shape(answer), status=answer.status, headers=dict(answer.headers))


def _page(answer: ErrorAnswer) -> HttpResponse:
    # No template and no context: either might want the database that is away.
    title = HTTPStatus(answer.status).phrase
    body = format_html(_PAGE, title=title, message=answer.message)
    return HttpResponse(body, status=answer.status, headers=dict(answer.headers))
