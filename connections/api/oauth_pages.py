"""What a person's browser is shown on a trip to a provider, where a program gets JSON: pages that work without scripts.

Before it a form for the parts of the provider's addresses that are missing, after it what has become of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from connections.api.oauth_binding import beginner_of
from connections.connect_links.asking import Question, variables_asked
from connections.connect_links.reports import OPENER_POLICY, opener_policy
from connections.models import ExternalApiConnection, OAuthFlow
from connections.oauth.scopes import scope_facts
from external_apis.models import ExternalApi
from external_apis.providers import open_config

__all__ = [
    "ask",
    "ask_to_hand_over",
    "is_person",
    "log_in",
    "missing_parts",
    "result_url",
    "secured",
    "show",
    "show_handed_over",
]

_ADMIN_PAGE = "admin:connections_externalapiconnection_change"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def is_person(request: HttpRequest) -> bool:
    """Tell whether somebody at a browser is asking: it wants HTML and brings no key."""
    return "text/html" in request.headers.get("Accept", "") and not request.headers.get("Authorization")


def log_in(request: HttpRequest) -> HttpResponse:
    """Lead a browser to the admin's log-in page and back to where it was going."""
    return HttpResponseRedirect(f"{reverse('admin:login')}?{urlencode({'next': request.get_full_path()})}")


def missing_parts(api: ExternalApi, given: Mapping[str, Any]) -> list[Question]:
    """Return the parts of the provider's addresses that a new connection needs and nobody has given yet."""
    return [question for question in variables_asked(open_config(api).api_config, given) if question.is_required]


def ask(request: HttpRequest, api: ExternalApi, parts: Sequence[Question], problem: str = "") -> HttpResponse:
    """Show a form that begins the trip with these parts of the provider's addresses and all that was given beside them.

    Without any it is a button alone: a click on a page of ours, after another site has led here.
    """
    asked = {part.name for part in parts}
    context = {
        "api": api,
        "here": request.path,
        "kept": [(name, value) for name, value in request.GET.items() if name not in asked],
        "parts": [(part, request.GET.get(part.name, "")) for part in parts],
        "problem": problem,
    }
    return secured(render(request, "connections/connect/begin.html", context, status=400 if problem else 200))


def result_url(flow: OAuthFlow) -> str:
    """Return the page of what has become of an attempt; its address holds nothing of the provider's answer."""
    return reverse("oauth-result", args=[flow.external_api_id, flow.pk])


def show(
    request: HttpRequest,
    flow: OAuthFlow | None,
    row: ExternalApiConnection | None,
    problem: str,
    *,
    status: int = 200,
    is_kept: bool = False,
) -> HttpResponse:
    """Say that a connection was made, or why not; with ``is_kept`` why not yet."""
    can_look = row is not None and request.user.has_perm("connections.view_externalapiconnection")
    context = {
        "api": flow.external_api if flow else None,
        "connection": row,
        "connection_url": reverse(_ADMIN_PAGE, args=[row.pk]) if can_look and row else "",
        "was_known": flow is not None and flow.connection_id is not None,
        "missing": scope_facts(row).missing if row else (),
        "problem": problem,
        "is_kept": is_kept,
    }
    return render(request, "connections/connect/oauth.html", context, status=status)


def ask_to_hand_over(request: HttpRequest, flow: OAuthFlow, *, is_refused: bool) -> HttpResponse:
    """Say who began the attempt, and ask whether it shall have the account: whoever looks may have been sent here."""
    context = {
        "api": flow.external_api,
        "beginner": beginner_of(flow),
        "is_refused": is_refused,
        "whose": flow.user or flow.partner or flow.tenant,
    }
    return render(request, "connections/connect/hand_over.html", context)


def show_handed_over(request: HttpRequest) -> HttpResponse:
    """Say that a program or terminal goes on from here; whoever looks has not shown to be anybody."""
    return render(request, "connections/connect/oauth.html", {})


def secured(response: HttpResponse, flow: OAuthFlow | None = None) -> HttpResponse:
    """Let nobody keep, frame or name an answer on the way of a code."""
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if flow is not None and flow.link is not None:
        # On the way to the link's own page: no redirect may cut off the window that opened it.
        response.headers[OPENER_POLICY] = opener_policy(flow.link)
    return response
