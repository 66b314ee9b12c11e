"""Who is in front of a flow: the session, key or connect link's browser that a request shows itself to be."""

from __future__ import annotations

import hashlib

from django.http import HttpRequest
from rest_framework.request import Request

from connections.connect_links import browsers
from connections.models import OAuthFlow
from external_apis import request_context
from external_apis.authentication import authenticate_token, bearer_token
from external_apis.key_holder import KeyHolder
from external_apis.models import ApiKey

__all__ = ["beginner_of", "bound_to", "holder_of", "shown_by"]


def bound_to(request: Request) -> str:
    """Return what a flow that this authenticated request begins is bound to."""
    if isinstance(request.user, KeyHolder):
        return _key(request.user)
    return _session(request._request)  # noqa: SLF001 (DRF has no other way to Django's own)


def holder_of(request: HttpRequest) -> KeyHolder | None:
    """Return the holder of the key that a callback brings, None without one; raises as `authenticate_token`."""
    header = request.headers.get("Authorization", "")
    if header.strip().partition(" ")[0].lower() != "bearer":
        return None
    return authenticate_token(bearer_token(header), request_context.current().address)


def shown_by(request: HttpRequest, flow: OAuthFlow, holder: KeyHolder | None) -> frozenset[str]:
    """Return everything that a callback's request has shown to be, for this flow."""
    shown = {_key(holder)} if holder is not None else set()
    if request.user.is_authenticated:
        shown.add(_session(request))
    if flow.link_id and (browser := browsers.value_of(request)):
        shown.add(browsers.bound_to(browser, flow.link_id))
    return frozenset(shown)


def beginner_of(flow: OAuthFlow) -> str:
    """Name the program or terminal that began a flow, for somebody who is asked to trust it."""
    kind, _, name = flow.bound_to.partition(":")
    if kind == "terminal":
        user, _, secret = name.rpartition(":")
        return f"{user} at a terminal of this server" if user and secret else "somebody at a terminal of this server"
    title = ApiKey.objects.filter(pk=name).values_list("title", flat=True).first()
    return f"a program with the key “{title or name}”"


def _key(holder: KeyHolder) -> str:
    return f"key:{holder.key_id}"


def _session(request: HttpRequest) -> str:
    """Name a session without its key, which would open it."""
    key = request.session.session_key or ""
    return f"session:{hashlib.sha256(key.encode()).hexdigest()}"
