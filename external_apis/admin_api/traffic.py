"""What every answer of the limited APIs carries and leaves in the log, also where Django itself gives it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse

from external_apis import request_context, throttling
from external_apis.request_paths import shown_path

log = structlog.get_logger(__name__)

LINES = {"/api/external": "[ExternalAPI]", "/exsvc": "[ServiceAPI]"}
"""The limited prefixes, and how their log lines begin."""


class TrafficMiddleware:
    """Adds the rate limit's headers, and writes a line: of reading at level debug, of changes and failures above it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        mark = next((LINES[prefix] for prefix in LINES if f"{request.path}/".startswith(f"{prefix}/")), None)
        began = time.perf_counter()
        response = self.get_response(request)
        quota: throttling.Quota | None = getattr(request, "quota", None)
        if quota is None and mark is not None:  # refused before a view was reached
            quota = throttling.charge_address(request_context.current().address)
        for name, value in quota.headers.items() if quota is not None else ():
            response[name] = value
        if mark is not None:
            _write_line(mark, request, response, time.perf_counter() - began)
        return response


def _write_line(mark: str, request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    status = response.status_code
    level = logging.DEBUG if status < 400 and request.method in ("GET", "HEAD") else logging.INFO
    if status >= 500:
        # What a provider answered is no failure of ours.
        level = logging.WARNING if response.has_header("X-Upstream-Latency-Ms") else logging.ERROR
    if logging.getLogger(__name__).isEnabledFor(level):
        # The path alone: people put secrets into queries.
        line = f"{mark} {request.method} {ascii(shown_path(request.path))[1:-1]} {status}"
        log.log(
            level,
            line,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            actor=request_context.current().actor,
        )
        response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 (Django would write another line)
