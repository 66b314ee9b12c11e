"""The ends of a trip to a provider: where it begins, where it comes back to, and how a grant is ended."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from pydantic import BaseModel, ConfigDict
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from connections import connecting, lookup
from connections.api import oauth_pages
from connections.api.oauth_binding import bound_to, holder_of, shown_by
from connections.api.oauth_input import AuthorizeQuery, callback_parameters, read_authorize
from connections.api.representation import ConnectionDetail, connection_detail
from connections.api.views import ConnectionView
from connections.connect_links import browsers
from connections.connect_links.fulfilment import fulfil, landing_url
from connections.connect_links.invitations import note_failure
from connections.models import ExternalApiConnection, OAuthFlow
from connections.oauth import flows
from connections.oauth.revocation import revoke
from external_apis import providers, request_context
from external_apis.error_answers import describe, plain_body
from external_apis.errors import ApiManagerError, FlowRefused, Forbidden, GrantKept, InvalidInput, NotFound
from external_apis.key_holder import KeyHolder
from external_apis.management_api.frame import ManagementView
from external_apis.management_api.schema import redirects, writes
from external_apis.tenancy import EVERYTHING, Scope, scope_of


class Begun(BaseModel):
    """Where the browser goes; the same address is in ``Location``."""

    authorization_url: str
    expires_in: int


class Revoked(ConnectionDetail):
    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    """Whether the provider was told, and what it said."""


class Authorize(ManagementView):
    model = ExternalApiConnection

    @property
    def permission_actions(self) -> dict[str, str]:  # type: ignore[override]
        return {"GET": "change" if "connection" in self.request.query_params else "add"}

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """A redirect has no representation: nobody is refused for the wrong ``Accept``."""
        return super().perform_content_negotiation(request, force=True)

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, NotAuthenticated) and oauth_pages.is_person(self._page_request):
            return oauth_pages.secured(oauth_pages.log_in(self._page_request))
        return super().handle_exception(exc)

    @redirects("authorize_connection", AuthorizeQuery, Begun, "Go to the provider to connect an account")
    def get(self, request: Request, reference: str) -> Response | HttpResponse:
        is_person, is_led_here = oauth_pages.is_person(self._page_request), _is_led_here(request)
        if is_led_here and not is_person:
            raise Forbidden("Connecting is begun here, not from another site.")
        api = providers.find_by_id_or_slug(reference, self.scope)
        query, body = read_authorize(request.query_params, api, request.user)
        row = lookup.find_of_provider(api, query.connection, self.scope) if query.connection else None
        may_ask = is_person and row is None
        missing = oauth_pages.missing_parts(api, body["provider_data"]) if may_ask else []
        if missing or is_led_here:
            return oauth_pages.ask(self._page_request, api, missing)
        wish = connecting.Wish(api, bound_to(request), row, body, scope=self.scope)
        try:
            url = connecting.begin_flow(wish, origin=f"{request.scheme}://{request.get_host()}")
        except InvalidInput as error:
            if may_ask and (parts := oauth_pages.missing_parts(api, {})):
                return oauth_pages.ask(self._page_request, api, parts, error.message)
            raise
        begun = {"authorization_url": url, "expires_in": flows.FLOW_SECONDS}
        return Response(begun, status=302, headers={"Location": url, "Referrer-Policy": "no-referrer"})

    @property
    def _page_request(self) -> HttpRequest:
        return self.request._request  # noqa: SLF001 (DRF has no other way to Django's own)


@method_decorator(csrf_exempt, name="dispatch")
class Callback(View):
    """Where providers send browsers back to; by the provider's id, and by its slug as in seed 000."""

    http_method_names = ("get", "post")

    def post(self, request: HttpRequest, reference: str) -> HttpResponse:
        """Hand an answer to the program or terminal that began: the button of the page that a browser is shown first.

        Without a CSRF token, since only the browser that came from the provider knows the code in the address.
        """
        return self.get(request, reference)

    def get(self, request: HttpRequest, reference: str) -> HttpResponse:
        flow = None
        try:
            parameters = callback_parameters(request)
            holder = holder_of(request)
            flow = connecting.find_flow(parameters)
            _check_route(flow, reference)
            if elsewhere := _other_door(request, flow):
                return oauth_pages.secured(HttpResponseRedirect(elsewhere), flow)
            return oauth_pages.secured(self._finish(request, flow, parameters, holder), flow)
        except ApiManagerError as error:
            return oauth_pages.secured(_failed(request, flow, error), flow)

    def _finish(
        self, request: HttpRequest, flow: OAuthFlow, parameters: dict[str, str], holder: KeyHolder | None
    ) -> HttpResponse:
        shown = shown_by(request, flow, holder)
        scope = _scope_for(request, flow, holder) if flow.bound_to in shown else EVERYTHING
        on_stored = partial(fulfil, flow.link) if flow.link else None
        if flow.link_id:
            request_context.set_actor(f"link:{flow.link_id}")
        if flow.bound_to not in shown and flows.is_parkable(flow):
            flows.require_unanswered(flow)
            if holder is not None:
                raise FlowRefused("This attempt to connect was begun with another key.", reason="foreign")
            if request.method != "POST":
                return oauth_pages.ask_to_hand_over(request, flow, is_refused="code" not in parameters)
        if holder is not None and set(parameters) == {"state"}:
            row = connecting.collect(flow, shown, scope=scope)
        else:
            row = connecting.finish_flow(flow, parameters, shown, scope=scope, on_stored=on_stored)
        if flow.link is not None:
            return HttpResponseRedirect(landing_url(flow.link))
        if holder is not None:
            return JsonResponse(connection_detail(row)) if row else JsonResponse({"status": "pending"}, status=202)
        return HttpResponseRedirect(oauth_pages.result_url(flow), status=303)


class Result(View):
    """What has become of an attempt, for the session that began it; its address may stay in a browser's history."""

    http_method_names = ("get",)

    def get(self, request: HttpRequest, reference: str, flow_id: str) -> HttpResponse:
        try:
            flow = flows.find_answered(flow_id)
            if flows.is_parkable(flow):
                return oauth_pages.secured(oauth_pages.show_handed_over(request))
            _require_own(flow, reference, shown_by(request, flow, None))
            return oauth_pages.secured(oauth_pages.show(request, flow, flow.made_connection, flow.error))
        except ApiManagerError as error:
            return oauth_pages.secured(oauth_pages.show(request, None, None, error.message, status=error.status))


class ConnectionRevoke(ConnectionView):
    permission_actions = {"POST": "change"}  # noqa: RUF012

    @writes("revoke_connection", None, Revoked, "End the grant: tell the provider, remove the tokens")
    def post(self, request: Request, reference: str, connection_reference: str) -> Response:
        done = revoke(self.find(reference, connection_reference))
        return Response({**connection_detail(done.connection), "message": done.message})


# --- parts --------------------------------------------------------------------------------------------------------


def _is_led_here(request: Request) -> bool:
    """Tell whether another site sent a session here, which begins no trip by itself; browsers say whose link it was."""
    return not isinstance(request.user, KeyHolder) and request.headers.get("Sec-Fetch-Site") == "cross-site"


def _require_own(flow: OAuthFlow, reference: str, shown: frozenset[str]) -> None:
    if flow.bound_to not in shown or reference not in (flow.external_api_id, flow.external_api.slug):
        raise NotFound("Nothing is known here of such an attempt to connect.")


def _check_route(flow: OAuthFlow, reference: str) -> None:
    """Refuse a code that came by another provider's callback: each provider that somebody registered has its own.

    By which of its addresses it came (id, slug, a proxy's) is for the provider to compare, letter for letter.
    """
    if reference not in (flow.external_api_id, flow.external_api.slug):
        raise FlowRefused("This attempt to connect belongs to another address.", reason="foreign")


def _other_door(request: HttpRequest, flow: OAuthFlow) -> str:
    """Return the same address at the host where the attempt began, if its cookies are there and not here."""
    origin, here = flows.origin_of(flow), f"{request.scheme}://{request.get_host()}"
    is_downgrade = request.scheme == "https" and not origin.startswith("https:")
    if not origin or origin == here or is_downgrade or flows.is_parkable(flow):
        return ""
    return origin + request.get_full_path()


def _scope_for(request: HttpRequest, flow: OAuthFlow, holder: KeyHolder | None) -> Scope:
    """Return whose rows count, after asking once more whether the asker may: rights may have gone meanwhile."""
    if flow.link_id:
        return EVERYTHING
    asker: Any = holder if holder is not None else request.user
    action = "change" if flow.connection_id else "add"
    if not (asker.is_staff and asker.is_active and asker.has_perm(f"connections.{action}_externalapiconnection")):
        raise Forbidden("You do not have the permission that this needs.")
    return scope_of(asker)


def _failed(request: HttpRequest, flow: OAuthFlow | None, error: ApiManagerError) -> HttpResponse:
    if request.headers.get("Authorization"):
        answer = describe(error)
        assert answer is not None  # noqa: S101 (every error of ours has one)
        return JsonResponse(plain_body(answer), status=answer.status, headers=dict(answer.headers))
    is_foreign = isinstance(error, FlowRefused) and error.reason == "foreign"
    if flow is not None and flow.link is not None and not is_foreign and not isinstance(error, GrantKept):
        note_failure(flow.link, error.message)
        landing = HttpResponseRedirect(landing_url(flow.link))
        browsers.note_failure(landing, flow.link.pk)
        return landing
    return oauth_pages.show(
        request, flow, None, error.message, status=error.status, is_kept=isinstance(error, GrantKept)
    )
