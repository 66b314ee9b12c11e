"""Refuses, before any view runs, requests that no honest client sends: NUL bytes in the URL, text in odd charsets."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_header_parameters

from external_apis import error_answers
from external_apis.errors import InvalidInput

__all__ = ["CarefulRequest", "HostileInputMiddleware"]

_CHARSETS = ("utf-8", "ascii", "iso8859-1")


class CarefulRequest(WSGIRequest):
    """Reads the query and forms in one of three charsets, and in UTF-8 where the header names another one.

    Django takes any of Python's codecs, with ``hex`` and ``undefined`` among them, and fails before a middleware runs.
    The header itself stays as it is, for those who pass a body on.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:  # a parameter (RFC 2231) in a charset that is none
            self.content_type, self.content_params = "", {}
        if _is_read(charset := self.content_params.get("charset", "")):
            self.encoding = charset


class HostileInputMiddleware:
    """Answers 400 where PostgreSQL would refuse the text later, or Python the charset, deep inside a page.

    The APIs read JSON, which is UTF-8 whatever a charset says.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        if "\0" in request.path or "%00" in query or "\0" in query:
            return error_answers.respond(request, InvalidInput("The URL contains a NUL byte."))
        if not request.content_type and request.META.get("CONTENT_TYPE"):
            return error_answers.respond(request, InvalidInput("The Content-Type is malformed."))
        charset = (request.content_params or {}).get("charset")
        if charset is not None and not _is_read(charset) and error_answers.shape_of(request.path) is None:
            return error_answers.respond(request, InvalidInput("The charset is none that is read here: send UTF-8."))
        return self.get_response(request)


def _is_read(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name in _CHARSETS
    except (LookupError, ValueError):
        return False
