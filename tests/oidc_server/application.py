"""The provider's routes: the toolkit's, and ``/_control/<verb>``, by which tests make it do what they need."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any

import jwt
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.models import Application
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.urls import metadata_urlpatterns
from oauth2_provider.views import ConnectDiscoveryInfoView, JwksInfoView, TokenView

from tests.oidc_server.keys import keys, pem
from tests.oidc_server.tokens import claims_of

_tampering: dict[str, dict[str, Any]] = {}
_metadata: dict[str, Any] = {}
_asked: Counter[str] = Counter()


def discovery(request: HttpRequest) -> HttpResponse:
    _asked["discovery"] += 1
    document = json.loads(ConnectDiscoveryInfoView.as_view()(request).content)
    document["id_token_signing_alg_values_supported"] = sorted(keys.current)
    document["revocation_endpoint"] = document["token_endpoint"].replace("/token/", "/revoke_token/")
    document |= _metadata
    return JsonResponse({name: value for name, value in document.items() if value is not None})


def jwks(request: HttpRequest) -> HttpResponse:
    _asked["jwks"] += 1
    document = json.loads(JwksInfoView.as_view()(request).content)
    return JsonResponse({"keys": [*document["keys"], *keys.other_jwks()]})


@csrf_exempt
def token(request: HttpRequest) -> HttpResponse:
    """Answer as the toolkit does; the ID tokens of some clients are signed anew, for better or worse."""
    _asked["token"] += 1
    response: HttpResponse = TokenView.as_view()(request)
    answer = json.loads(response.content)
    claims = jwt.decode(answer["id_token"], options={"verify_signature": False}) if "id_token" in answer else {}
    change = _tampering.get(claims.get("aud", ""))
    if change is None:
        return response
    claims = {name: value for name, value in (claims | change["claims"]).items() if value is not None}
    answer["id_token"] = keys.sign(claims, change["algorithm"], change["key"], change["headers"])
    return JsonResponse(answer)


def _make_client(wanted: dict[str, Any]) -> dict[str, Any]:
    secret = "" if wanted["public"] else secrets.token_urlsafe(32)
    made = Application.objects.create(
        redirect_uris=" ".join(wanted["redirect_uris"]),
        post_logout_redirect_uris=" ".join(wanted["logout_uris"]),
        client_type=Application.CLIENT_PUBLIC if wanted["public"] else Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=wanted["grant"],
        client_secret=secret,
        algorithm=Application.RS256_ALGORITHM,
        skip_authorization=True,
    )
    claims_of[made.client_id] = wanted["claims"]
    if wanted["algorithm"] != "RS256":
        _tampering[made.client_id] = {"claims": {}, "algorithm": wanted["algorithm"], "key": "current", "headers": {}}
    return {"client_id": made.client_id, "client_secret": secret}


def _make_user(wanted: dict[str, Any]) -> dict[str, Any]:
    user, is_new = User.objects.get_or_create(username=wanted["username"])
    if is_new:
        user.set_password(wanted["password"])
        user.save()
    claims_of[user.username] = wanted["claims"]
    return {"sub": str(user.pk)}


def _rotate(wanted: dict[str, Any]) -> dict[str, Any]:
    keys.rotate()
    oauth2_settings.OIDC_RSA_PRIVATE_KEY = pem(keys.current["RS256"])
    oauth2_settings.OIDC_RSA_PRIVATE_KEYS_INACTIVE = [pem(keys.retired)] if wanted["keep_old"] else []
    return {}


def _tamper(wanted: dict[str, Any]) -> dict[str, Any]:
    client_id = wanted.pop("client_id")
    _tampering.pop(client_id, None)
    if wanted:
        _tampering[client_id] = wanted
    return {}


def _change_metadata(wanted: dict[str, Any]) -> dict[str, Any]:
    _metadata.clear()
    _metadata.update(wanted)
    return {}


def _sign(wanted: dict[str, Any]) -> dict[str, Any]:
    return {"token": keys.sign(**wanted)}


def _count(wanted: dict[str, Any]) -> dict[str, Any]:
    return dict(_asked)


_VERBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "client": _make_client,
    "user": _make_user,
    "rotate": _rotate,
    "tamper": _tamper,
    "metadata": _change_metadata,
    "sign": _sign,
    "count": _count,
}


@csrf_exempt
def control(request: HttpRequest, verb: str) -> HttpResponse:
    return JsonResponse(_VERBS[verb](json.loads(request.body)))


urlpatterns = [
    path("login", LoginView.as_view()),
    path("_control/<str:verb>", control),
    path("o/.well-known/openid-configuration", discovery),
    path("o/.well-known/jwks.json", jwks),
    path("o/token/", token),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    *metadata_urlpatterns,
]
