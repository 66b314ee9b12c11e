"""The page behind a connect link, for people without an account here; it works without JavaScript."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from connections.connect_links import browsers
from connections.connect_links.answering import accept_keys
from connections.connect_links.asking import is_by_consent, questions
from connections.connect_links.consent import begin
from connections.connect_links.fulfilment import landing_url
from connections.connect_links.invitations import note_failure, open_done, open_link
from connections.connect_links.reports import OPENER_POLICY, headers, opener_policy, report_of, return_url
from connections.models import ConnectLink
from external_apis import request_context
from external_apis.error_answers import respond
from external_apis.errors import ApiManagerError, CallError, InvalidInput, LinkUnusable
from external_apis.providers import open_config
from external_apis.throttling import charge_page

REQUESTS_A_MINUTE = 60


class HostedPage(View):
    """What both pages share: a limit for each address, and an answer to links that cannot be used."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            charge_page("connect-page", request_context.current().address, REQUESTS_A_MINUTE).require()
            return super().dispatch(request, *args, **kwargs)
        except LinkUnusable as error:
            return _page("unusable", {"problem": error.message}, status=error.status)
        except ApiManagerError as error:
            return respond(request, error)


@method_decorator(csrf_exempt, name="dispatch")
class ConnectPage(HostedPage):
    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        return _ask(request, token, open_link(token))

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        """No CSRF token: keys are as good from any page of whoever has the link, and consent needs this browser."""
        link = open_link(token)
        request_context.set_actor(f"link:{link.pk}")
        posted = request.POST.dict()
        try:
            where = _act(request, token, link, posted)
        except (InvalidInput, CallError) as error:
            note_failure(link, error.message)
            return _ask(request, token, link, error.message, status=error.status)
        return HttpResponseRedirect(where, headers={OPENER_POLICY: opener_policy(link)})


class DonePage(HostedPage):
    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        link = open_done(token)
        context = {"api": link.external_api, "return_url": return_url(link), "report": report_of(link)}
        return _page("done", context, link)


def _act(request: HttpRequest, token: str, link: ConnectLink, posted: dict[str, str]) -> str:
    """Begin what asks for consent, or take the keys; return where the browser goes."""
    if not is_by_consent(open_config(link.external_api).api_config):
        accept_keys(link, posted)
        return landing_url(link)
    browser = browsers.value_of(request)
    browsers.require_proof(browser, token, posted.get("proof", ""))
    return begin(link, posted, browser, origin=f"{request.scheme}://{request.get_host()}")


def _ask(request: HttpRequest, token: str, link: ConnectLink, problem: str = "", status: int = 200) -> HttpResponse:
    api = link.external_api
    config = open_config(api).api_config
    known = link.connection.provider_data if link.connection else {}
    by_consent = is_by_consent(config)
    browser = browsers.value_of(request) or browsers.make_value()
    context: dict[str, Any] = {
        "api": api,
        "expires_at": link.expires_at,
        "here": reverse("connect", args=[token]),
        "is_again": link.connection is not None,
        "is_by_consent": by_consent,
        "is_framed": request.headers.get("Sec-Fetch-Dest") == "iframe",
        "problem": problem or link.error,
        "proof": browsers.proof_of(browser, token) if by_consent else "",
        "questions": questions(api, config, known),
        "whose": link.user or link.partner or link.tenant,
    }
    # Whoever merely opens the page again has nothing new to tell.
    has_failed = browsers.has_just_failed(request, link.pk)
    if problem or has_failed:
        context["report"] = report_of(link)
    response = _page("ask", context, link, status=status)
    if has_failed:
        browsers.tell_no_more(response)
    if by_consent:
        browsers.give_cookie(response, browser)
    return response


def _page(name: str, context: dict[str, Any], link: ConnectLink | None = None, *, status: int = 200) -> HttpResponse:
    body = render_to_string(f"connections/connect/{name}.html", context)
    response = HttpResponse(body, status=status, headers=headers(link))
    response.xframe_options_exempt = True  # frame-ancestors says it better
    return response
