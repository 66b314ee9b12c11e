"""Keeps the list of sessions up to date behind the pages that people are signed in to."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse

from external_apis.backoffice import sessions


class SessionNotesMiddleware:
    """Stands behind Django's authentication middleware; a request without a session costs it nothing."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not settings.BACKOFFICE_ENABLED:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # Only now: the view may have exchanged the session's key.
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            sessions.note(request, request.user)
        return response
