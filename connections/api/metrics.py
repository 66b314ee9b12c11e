"""``GET /metrics`` for Prometheus: off unless ``METRICS_TOKEN`` is set, and for whoever sends that as bearer token."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from connections import prometheus

__all__ = ["metrics"]


@csrf_exempt
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer 404 while it is off, 401 without the token."""
    if not settings.METRICS_TOKEN:
        raise Http404
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not constant_time_compare(token.strip(), settings.METRICS_TOKEN):
        headers = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}
        return HttpResponse("Send METRICS_TOKEN as a bearer token.\n", "text/plain", 401, headers=headers)
    return HttpResponse(prometheus.render(), prometheus.CONTENT_TYPE, headers={"Cache-Control": "no-store"})
