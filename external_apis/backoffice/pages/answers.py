"""What the public pages share: the headers of a page that runs no script, and how a refusal looks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import get_conditional_response
from django.views import View

from external_apis.backoffice.visit_counting import Visit, mark
from external_apis.error_answers import respond
from external_apis.errors import ApiManagerError, NotFound

__all__ = ["PublicPage", "show", "show_cached"]

_POLICY = "default-src 'none'; style-src 'self'; img-src 'self' https:; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {"Referrer-Policy": "strict-origin-when-cross-origin"}


class PublicPage(View):
    """Answers errors of ours as pages, and what is not there with the way to what is."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().dispatch(request, *args, **kwargs)
        except NotFound:
            return show(request, "not_found", {}, status=404)
        except ApiManagerError as error:
            return respond(request, error)


def show(
    request: HttpRequest, template: str, context: Mapping[str, Any], *, sends_to: str = "'none'", status: int = 200
) -> HttpResponse:
    """Return a page that nothing stores; ``sends_to`` is where its forms may go."""
    policy = f"{_POLICY}; form-action {sends_to}"
    headers = {**_HEADERS, "Content-Security-Policy": policy, "Cache-Control": "no-store"}
    body = render_to_string(f"backoffice/pages/{template}.html", dict(context), request)
    return HttpResponse(body, status=status, headers=headers)


def show_cached(request: HttpRequest, template: str, context: Mapping[str, Any], visit: Visit) -> HttpResponse:
    """Return a page that is the same for everybody, or 304 to whoever has it as it is.

    It may be kept by anybody and is asked for again each time: what is withdrawn is gone at once, and visits are seen.
    """
    response = show(request, template, context)
    response["Cache-Control"] = "public, no-cache"
    etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    response["ETag"] = etag
    answer = get_conditional_response(request, etag, response=response) or response
    return mark(answer, visit)
