"""Who calls through the gateway: a key or a JWT, wherever the provider's SDK is able to put one."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import TYPE_CHECKING

from connections import warm
from connections.gateway import credit
from external_apis import kept_keys, request_context, throttling
from external_apis.authentication import authenticate_token, bearer_token
from external_apis.errors import ApiManagerError, Forbidden, InvalidAuthScheme, NotAuthenticated, NotFound

if TYPE_CHECKING:
    from django.http import HttpRequest

    from connections.client import ApiClient
    from connections.models import ExternalApiConnection
    from external_apis.authentication import KeyHolder

__all__ = ["admit", "reach"]

SCOPE = "proxy"
_PLACES = "Send the key as a Bearer token, as the password of Basic, or in X-Api-Key."
_HEADERS_BEGIN = "X-Gateway-RateLimit"
"""``X-RateLimit-…`` is the provider's to say, whose answer this is."""


def admit(request: HttpRequest) -> KeyHolder:
    """Return who asks, with one of their slots taken.

    The credential is a Bearer token, the password of Basic whatever the user name, or ``X-Api-Key``; the first one that
    is there counts. Raises as `authenticate_token`, `Forbidden` without the scope ``proxy``, and `RateLimited`.
    """
    address = request_context.current().address
    try:
        holder = authenticate_token(_read_token(request), address, finder=kept_keys)
    except ApiManagerError:
        _charge(request, throttling.charge_address(address))
        raise
    _charge(request, credit.charge(holder))
    if not holder.has_scope(SCOPE):
        raise Forbidden(f"This needs the scope {SCOPE}.", details={"scope": SCOPE})
    return holder


def reach(holder: KeyHolder, connection_id: str) -> tuple[ApiClient, ExternalApiConnection]:
    """Return the client of a connection that the holder sees, and its row.

    Raises `NotFound`, as for one that never was, for any other, whatever state that is in; `ConnectionUnusable`; and
    what opening raises.
    """
    try:
        return warm.lend_client(connection_id, holder.external_apis_scope)
    except NotFound as error:
        if connection_id.startswith("conn_"):
            raise
        hint = "the gateway's URL takes a connection's id, conn_…, and no reference"
        raise NotFound(f"{error.message}: {hint}.") from None


def _read_token(request: HttpRequest) -> str:
    header: str | None = request.META.get("HTTP_AUTHORIZATION")
    scheme, _, value = (header or "").strip().partition(" ")
    if not scheme and (key := request.META.get("HTTP_X_API_KEY", "").strip()):
        return str(key)
    if scheme.lower() != "basic":
        try:
            return bearer_token(header)
        except NotAuthenticated as error:
            raise type(error)(f"{error.message} {_PLACES}") from None
    try:
        return base64.b64decode(value.strip(), validate=True).decode("latin-1").partition(":")[2]
    except (binascii.Error, ValueError):
        raise InvalidAuthScheme("The Basic credentials are not base64.") from None


def _charge(request: HttpRequest, quota: throttling.Quota) -> None:
    request.quota = replace(quota, headers_begin=_HEADERS_BEGIN)  # type: ignore[attr-defined]  # told in the headers of whatever the answer becomes
    quota.require()
