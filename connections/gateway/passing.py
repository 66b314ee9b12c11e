"""One request through the gateway, from its door to the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse

from connections.gateway import once
from connections.gateway.allowance import check_allowed
from connections.gateway.answers import relay
from connections.gateway.bodies import read_body
from connections.gateway.callers import admit, reach
from connections.gateway.calls import GatewayCall, berthed
from connections.gateway.headers import passed_request
from connections.gateway.paths import read_route

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["pass_on"]


def pass_on(request: HttpRequest, connection_id: str, tail: str) -> HttpResponseBase:
    """Send a request through a connection and return the answer as it was, whatever its status.

    With ``?dry_run=curl`` it is shown instead. Raises what keeps it from being sent or answered: `NotAuthenticated`,
    `Forbidden`, `NotFound`, `ConnectionUnusable`, `InvalidInput`, `RateLimited`, `TooManyCalls`, `EgressRefused`,
    `CallError`, and what `once.send` raises.
    """
    holder = admit(request)
    client, row = reach(holder, connection_id)
    method, rules = request.method or "", client.target.config.proxy
    route = read_route(tail, request.META.get("QUERY_STRING", ""), client.base_path)
    check_allowed(rules, method, route.path)
    headers = passed_request(request.META, may_override_method=rules is None)
    key = once.read_key(method, request.META)
    if key:
        headers = once.mark(client, holder, key, headers)
    # Before the body is read: whoever sends slowly has one of the places, and not the threads of all others.
    with berthed(row.pk) as leave:
        body = read_body(request, must_be_whole=bool(key) or client.covers_body)
        call = GatewayCall(client, method, route, headers, body)
        if route.is_dry_run:
            leave()
            return _show(call)
        return once.send(call, holder, row, key, leave) if key else relay(call.send(), leave)


def _show(call: GatewayCall) -> HttpResponse:
    return HttpResponse(call.show(), content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})
