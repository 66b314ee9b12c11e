"""Refuses, before any view runs, requests that no honest client sends: NUL bytes in the path or the query."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from external_apis import error_answers
from external_apis.errors import InvalidInput


class HostileInputMiddleware:
    """Answers 400 where PostgreSQL would refuse the text later, with a 500, deep inside a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        if "\0" in request.path or "%00" in query or "\0" in query:
            return error_answers.respond(request, InvalidInput("The URL contains a NUL byte."))
        return self.get_response(request)
