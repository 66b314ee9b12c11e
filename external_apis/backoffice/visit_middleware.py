"""Counts visits to pages: GET requests of people for HTML, by the page and the host that led to it.

Nothing of whoever asks is kept: no address, no cookie, no user agent, nothing of the query. Of ``Referer`` the host
alone is, and of an address as host not even that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse

from external_apis.backoffice.visit_counting import Visit, record, visit_of
from external_apis.backoffice.visit_store import OTHER

__all__ = ["DIRECT", "VisitMiddleware"]

DIRECT = "(direct)"
"""The referrer of whoever came by no link, or does not tell."""

_APART = ("/admin/", "/api/", "/exsvc/", "/static/", "/healthz/", "/metrics/")
"""What is no page for visitors, with all below it."""

_BROWSER = re.compile(r"(?:Mozilla|Opera)/")
_PROGRAMS = re.compile(
    r"(?<!\bcu)bot(?:\b|_)|crawl|spider|slurp|preview|monitor|\bscan\b|scanner|fetch|headless|lighthouse|externalhit|"
    r"mediapartners|archiver|inspect|zgrab|nmap|feed|https?://",
    re.IGNORECASE,
)
"""What programs have in their names that begin as those of browsers do. Cubot makes telephones."""

_HOST = re.compile(r"(?=.{1,100}$)[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")
_LONGEST_REFERER = 2_000
_CONVERTED = re.compile(r"<(?:\w+:)?(\w+)>")


class VisitMiddleware:
    """Is not there at all unless ``VISIT_COUNTING`` is on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not (settings.VISIT_COUNTING and settings.BACKOFFICE_ENABLED):
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.method == "GET" and (visit := _visit(request, response)) is not None and _is_person(request):
            own = request.META.get("HTTP_HOST") or request.META.get("SERVER_NAME", "")
            record(visit, _referrer(request.META.get("HTTP_REFERER", ""), own), at=time.time())
        return response


def _visit(request: HttpRequest, response: HttpResponse) -> Visit | None:
    """Return the page that was seen: as its view has marked it, else by the template of its route."""
    if response.status_code == 304:
        return visit_of(response)
    if response.status_code != 200:
        return None
    if (visit := visit_of(response)) is not None:
        return visit
    if f"{request.path}/".startswith(_APART) or not response.get("Content-Type", "").startswith("text/html"):
        return None
    match = request.resolver_match
    # A route that is a regular expression has no template to tell; what its groups take might be anybody's secret.
    if match is None or match.route.startswith("^") or "(?" in match.route:
        return None
    return Visit(_template(match.route))


@lru_cache(maxsize=500)
def _template(route: str) -> str:
    return "/" + _CONVERTED.sub(r"{\1}", route)


def _is_person(request: HttpRequest) -> bool:
    agent = request.META.get("HTTP_USER_AGENT", "")
    purpose = request.META.get("HTTP_SEC_PURPOSE", "") or request.META.get("HTTP_PURPOSE", "")
    return "prefetch" not in purpose and _is_browser(agent[:500])


@lru_cache(maxsize=1_000)
def _is_browser(agent: str) -> bool:
    return _BROWSER.match(agent) is not None and not _PROGRAMS.search(agent)


@lru_cache(maxsize=1_000)
def _referrer(referer: str, own_host: str) -> str:
    """Return the host that led here, `DIRECT`, or nothing where it was a page of ours."""
    if not referer:
        return DIRECT
    if len(referer) > _LONGEST_REFERER:
        return OTHER
    try:
        parts = urlsplit(referer)
        host, own = (parts.hostname or "").rstrip("."), urlsplit(f"//{own_host}").hostname
    except ValueError:
        return OTHER
    if parts.scheme not in ("http", "https"):
        return OTHER
    if host == own:
        return ""
    return host if _HOST.fullmatch(host) and not _is_address(host) else OTHER


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        # Such as 127.1 or 0x7f.1, which some take for one.
        return host.rpartition(".")[2][:1].isdigit()
    return True
