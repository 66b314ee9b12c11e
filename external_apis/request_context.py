"""Who is acting and in which request: set at the edges (HTTP, commands), read by history, logs and audit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from external_apis.ids import new_id

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([\d.]+))(?::\d{1,5})?", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


@dataclass(frozen=True)
class RequestContext:
    """``actor`` is a readable name (``user:alice``, ``key:ADMIN_API_KEY``, ``command:call``), ``user_id`` the primary
    key of the user model where a user acts, ``api_key_id`` the id of the stored API key that was sent, ``address`` the
    peer's IP address, ``traceparent`` the header of that name (W3C Trace Context), empty where it is malformed."""

    request_id: str = ""
    actor: str = ""
    user_id: Any = None
    api_key_id: str = ""
    address: str | None = None
    traceparent: str = ""


_current = ContextVar("external_apis_request_context", default=RequestContext())  # noqa: B039 (frozen)


def current() -> RequestContext:
    return _current.get()


@contextmanager
def acting(actor: str, *, user_id: Any = None) -> Iterator[None]:
    """Name the actor for the time of a block; keeps the request id, or makes one."""
    context = _current.get()
    token = _current.set(replace(context, actor=actor, user_id=user_id, request_id=context.request_id or new_id("req")))
    try:
        yield
    finally:
        _current.reset(token)


def start(request_id: str = "") -> None:
    """Begin anew, for the log too, where one thing is done after another; a malformed id, or none, becomes a new one.

    Nobody acts yet.
    """
    request_id = request_id if _REQUEST_ID.fullmatch(request_id) else new_id("req")
    _current.set(RequestContext(request_id=request_id))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)


def set_actor(actor: str, *, user_id: Any = None, api_key_id: str = "") -> None:
    """Name the actor for the rest of the current request."""
    _current.set(replace(_current.get(), actor=actor, user_id=user_id, api_key_id=api_key_id))


def peer_address(request: HttpRequest) -> str | None:
    """Return the IP address that a request came from; None where the server tells none.

    With ``TRUST_PROXY_HEADERS`` it is the last one in ``X-Forwarded-For``: the proxy's own word, where those before it
    are the client's; some proxies write a port behind it (``198.51.100.7:555``, ``[2001:db8::7]:555``). An IPv4 address
    that is mapped into IPv6 counts as itself.
    """
    given = request.META.get("REMOTE_ADDR") or ""
    if settings.TRUST_PROXY_HEADERS and (forwarded := request.META.get("HTTP_X_FORWARDED_FOR")):
        given = forwarded.rpartition(",")[2].strip()
        if match := _WITH_PORT.fullmatch(given):
            given = match[1] or match[2] or ""
    try:
        address = ip_address(given)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


class RequestContextMiddleware:
    """Gives every request an id (a well-formed incoming ``X-Request-Id`` is taken over) and returns it as a header."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        incoming = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = incoming if _REQUEST_ID.fullmatch(incoming) else new_id("req")
        request.request_id = request_id  # type: ignore[attr-defined]  # for what is logged of it when this has ended
        traceparent = request.META.get("HTTP_TRACEPARENT", "")
        context = RequestContext(
            request_id=request_id,
            address=peer_address(request),
            traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
        )
        token = _current.set(context)
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                response = self.get_response(request)
        finally:
            _current.reset(token)
        response["X-Request-Id"] = request_id
        return response


class ActorMiddleware:
    """Names the signed-in user as the actor. Stands behind Django's authentication middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = getattr(request, "user", None)
        # A request without a session cookie cannot have a user, and is not worth loading one.
        if request.COOKIES and user is not None and user.is_authenticated:
            set_actor(f"user:{user.get_username()}", user_id=user.pk)
        return self.get_response(request)
