"""A sign-in from its button to a session, and the log-out that ends both sessions."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import urlencode, urlsplit

import structlog
from django.conf import settings
from django.contrib.auth import login, logout
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from social_core.exceptions import SocialAuthBaseException

from external_apis.errors import ApiManagerError, Forbidden, NotAuthenticated, NotFound, VaultError
from external_apis.keyring import keyring
from external_apis.sign_on.accounts import admit
from external_apis.sign_on.provider import provider_for
from external_apis.user_backend import UserBackend

__all__ = ["begin", "complete", "end"]

SESSION_SECONDS = 12 * 3600
"""How long a session lasts that began at the provider: after that the claims are read again."""

_NEXT, _ID_TOKEN = "sign_on_next", "sign_on_id_token"
_BACKEND = f"{UserBackend.__module__}.{UserBackend.__qualname__}"

log = structlog.get_logger(__name__)


def begin(request: HttpRequest) -> str:
    """Return where the browser is to be sent. Raises `NotFound` where sign-on is off, and the transport's errors."""
    _require_sign_on()
    request.session[_NEXT] = _own_page(request, request.GET.get("next", ""))
    try:
        return str(provider_for(request).auth_url())
    except SocialAuthBaseException:
        raise NotAuthenticated("The sign-in provider does not say where people sign in.") from None


def complete(request: HttpRequest) -> str:
    """Sign the person in whom the provider sends back; return the page that was asked for.

    Raises `NotAuthenticated` for an answer that does not stand up, `Forbidden` for a person who may not in, and the
    transport's errors.
    """
    _require_sign_on()
    claims, id_token = provider_for(request).claims()
    user = admit(claims)
    if not user.is_staff:
        raise Forbidden("Your account at the sign-in provider is not one of this product's staff.")
    if not UserBackend().user_can_authenticate(user):
        raise Forbidden("Your account, or the tenant that it belongs to, is inactive.")
    page = request.session.pop(_NEXT, "") or reverse("admin:index")
    login(request, user, backend=_BACKEND)
    request.session.set_expiry(SESSION_SECONDS)
    request.session[_ID_TOKEN] = _sealed(id_token)
    return page


def end(request: HttpRequest) -> str:
    """End our session; return where the provider's is ended, or our log-in page where it has no such place.

    The provider is told which session by the ID token, as OpenID Connect RP-Initiated Logout 1.0 has it: it opens
    nothing there, and has expired within minutes.
    """
    hint = _opened(request.session.get(_ID_TOKEN, ""))
    had_sign_on = _ID_TOKEN in request.session
    logout(request)
    home = reverse("admin:login")
    if not had_sign_on or not settings.OIDC_ISSUER:
        return home
    try:
        endpoint = provider_for(request).metadata.text("end_session_endpoint")
    except ApiManagerError as error:
        log.warning("sign_on.provider_not_told", reason=error.message)
        return home
    if urlsplit(endpoint).scheme not in ("http", "https"):
        return home
    query = {"client_id": settings.OIDC_CLIENT_ID, "post_logout_redirect_uri": settings.PUBLIC_BASE_URL + home}
    if hint:
        query["id_token_hint"] = hint
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"


def _require_sign_on() -> None:
    if not settings.OIDC_ISSUER:
        raise NotFound("There is no sign-in provider.")


def _own_page(request: HttpRequest, page: str) -> str:
    is_own = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return page if is_own else ""


def _sealed(id_token: str) -> str:
    """A session is a row in clear, and some other service might take the token."""
    return base64.b64encode(keyring().seal(id_token.encode(), _ID_TOKEN)).decode()


def _opened(sealed: Any) -> str:
    try:
        return keyring().open(base64.b64decode(str(sealed)), _ID_TOKEN).decode()
    except (VaultError, binascii.Error):
        return ""
