"""The way past middleware that has no say in a proxied call: there is no session, no form and no page of ours in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.http import HttpResponse

from connections.gateway.views import proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["PATH", "ShortcutMiddleware"]

PATH = re.compile(r"/api/external/proxy/(?P<connection_id>[^/]+)(?P<path>(?s:/.*)?)")


class ShortcutMiddleware:
    """Calls the gateway's view straight. Stands behind what concerns every request: its id, its transport, its log."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        match = PATH.fullmatch(request.path_info)
        if match is None:
            return self.get_response(request)
        response = proxy(request, **match.groupdict())
        if request.method != "HEAD" and response.status_code not in (204, 304) and isinstance(response, HttpResponse):
            response.setdefault("Content-Length", str(len(response.content)))
        return response
