"""The sandbox's token endpoint: what it gives, to whom, and everything that it refuses."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from connections.sandbox.oauth.clients import DEVICE_CODE, JWT_BEARER
from tests.connections.sandbox.conftest import Client

CALLBACK = "https://app.example/callback?keep=1"
SECRET = "a client secret with : and %"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
_numbers = itertools.count(1)


@dataclass
class App:
    """An OAuth client of its own for each test, which knows nothing of the product's."""

    client: Client
    id: str

    def set(self, **settings: Any) -> None:
        self.client.sandbox.register(self.id, **settings)

    def counts(self) -> dict[str, int]:
        return self.client.sandbox.oauth_counts(self.id)

    def authorize(self, **changes: str | None) -> requests.Response:
        asked = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": CALLBACK,
            "state": "s" * 20,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return self.client.get("/oauth/authorize", params={k: v for k, v in (asked | changes).items() if v is not None})

    def back(self, **changes: str | None) -> dict[str, str]:
        """The parameters with which the user is sent back."""
        answer = self.authorize(**changes)
        assert answer.status_code == 302, answer.text
        parts = urlsplit(answer.headers["Location"])
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://app.example/callback"
        return {name: values[0] for name, values in parse_qs(parts.query).items()}

    def post(self, fields: dict[str, str], **options: Any) -> requests.Response:
        options.setdefault("auth", (self.id, "a+client+secret+with+%3A+and+%25"))
        return self.client.post("/oauth/token", data=fields, **options)

    def trade(self, given: str, **changes: str) -> requests.Response:
        fields = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        return self.post(fields | {"code": given} | changes)

    def refresh(self, token: str, **changes: str) -> requests.Response:
        return self.post({"grant_type": "refresh_token", "refresh_token": token} | changes)

    def connect(self) -> dict[str, Any]:
        return dict(self.trade(self.back()["code"]).json())

    def can_call(self, token: str) -> bool:
        answer = self.client.get("/auth/oauth2/me", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code == 200


@pytest.fixture
def app(client: Client) -> App:
    made = App(client, f"app-{next(_numbers)}")
    made.set(client_secret=SECRET, redirect_uris=[CALLBACK], consent="approve")
    return made


def error_of(answer: requests.Response) -> str:
    assert answer.status_code in {400, 401}, answer.text
    return str(answer.json()["error"])


def test_a_code_becomes_tokens_that_open_the_resource(app: App) -> None:
    back = app.back(scope="read")
    assert back["state"] == "s" * 20
    assert back["iss"] == app.client.sandbox.url
    assert back["keep"] == "1"
    answer = app.trade(back["code"])
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = answer.json()
    assert tokens["token_type"] == "Bearer"
    assert (tokens["expires_in"], tokens["scope"]) == (150, "read")
    assert app.can_call(tokens["access_token"])
    assert not app.can_call(tokens["refresh_token"])
    assert not app.can_call(tokens["access_token"][:-2] + "xx")


def test_the_page_asks_each_scope_and_is_good_for_one_answer(app: App) -> None:
    app.set(consent="ask")
    page = app.authorize(scope="read write")
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    ticket = page.text.partition("name=ticket value='")[2].partition("'")[0]
    answer = app.client.post("/oauth/authorize", data={"ticket": ticket, "scope": "write", "decision": "approve"})
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    assert app.trade(code).json()["scope"] == "write"
    assert app.client.post("/oauth/authorize", data={"ticket": ticket, "decision": "approve"}).status_code == 400


@pytest.mark.parametrize(
    ("settings", "changes", "error"),
    [
        ({"consent": "deny"}, {}, "access_denied"),
        ({"consent": "temporarily_unavailable"}, {}, "temporarily_unavailable"),
        ({}, {"sandbox_decision": "deny"}, "access_denied"),
        ({}, {"response_type": "token"}, "unsupported_response_type"),
        ({}, {"state": None}, "invalid_request"),
        ({}, {"code_challenge": None}, "invalid_request"),
        ({}, {"code_challenge_method": "plain"}, "invalid_request"),
        ({}, {"code_challenge": "short"}, "invalid_request"),
        ({"pkce": "refused"}, {}, "invalid_request"),
        ({}, {"scope": "read admin"}, "invalid_scope"),
        ({"grants": ["client_credentials"]}, {}, "unauthorized_client"),
    ],
)
def test_an_error_goes_back_to_the_client(
    app: App, settings: dict[str, Any], changes: dict[str, str | None], error: str
) -> None:
    app.set(**settings)
    back = app.back(**changes)
    assert back["error"] == error
    assert "code" not in back


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"redirect_uri": None},
        {"redirect_uri": "https://app.example/callback"},
        {"redirect_uri": CALLBACK + "&more=1"},
        {"redirect_uri": CALLBACK.replace("app", "APP")},
        {"redirect_uri": CALLBACK.replace("https", "http")},
        {"redirect_uri": "https://app.example@evil.example/callback?keep=1"},
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_registered(app: App, changes: dict[str, str | None]) -> None:
    answer = app.authorize(**changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


def test_a_code_works_once_and_its_reuse_takes_back_what_it_gave(app: App) -> None:
    code = app.back()["code"]
    tokens = app.trade(code).json()
    assert error_of(app.trade(code)) == "invalid_grant"
    assert not app.can_call(tokens["access_token"])
    assert error_of(app.refresh(tokens["refresh_token"])) == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": CALLBACK + "#"},
        {"redirect_uri": ""},
        {"code_verifier": ""},
        {"code_verifier": "w" * 43},
        {"code": "unknown"},
    ],
)
def test_a_code_needs_everything_to_fit(app: App, changes: dict[str, str]) -> None:
    code = app.back()["code"]
    assert error_of(app.trade(code, **changes)) == "invalid_grant"


def test_a_code_belongs_to_its_client(app: App) -> None:
    code = app.back()["code"]
    other = App(app.client, f"{app.id}-other")
    other.set(client_secret=SECRET, redirect_uris=[CALLBACK])
    assert error_of(other.trade(code)) == "invalid_grant"


def test_without_pkce_where_it_is_optional(app: App) -> None:
    app.set(pkce="optional")
    code = app.back(code_challenge=None, code_challenge_method=None)["code"]
    assert error_of(app.trade(code)) == "invalid_grant"  # a verifier that nobody announced
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
    assert app.post(fields).status_code == 200


def test_refresh_tokens_rotate_and_reuse_revokes_the_family(app: App) -> None:
    first = app.connect()
    second = app.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert app.can_call(second["access_token"])
    assert error_of(app.refresh(first["refresh_token"])) == "invalid_grant"
    assert error_of(app.refresh(second["refresh_token"])) == "invalid_grant"
    assert not app.can_call(second["access_token"])
    assert app.counts()["refresh_tokens_reused"] == 1


def test_another_grant_of_the_same_client_is_not_touched(app: App) -> None:
    first, other = app.connect(), app.connect()
    app.refresh(first["refresh_token"])
    app.refresh(first["refresh_token"])
    assert app.can_call(other["access_token"])
    assert app.refresh(other["refresh_token"]).status_code == 200


def test_a_refresh_token_belongs_to_its_client_and_cannot_grow(app: App) -> None:
    token = app.trade(app.back(scope="read")["code"]).json()["refresh_token"]
    other = App(app.client, f"{app.id}-other")
    other.set(client_secret=SECRET)
    assert error_of(other.refresh(token)) == "invalid_grant"
    assert error_of(app.refresh(token, scope="read write")) == "invalid_scope"
    assert error_of(app.refresh("sandbox-issued.x.y")) == "invalid_grant"
    assert app.refresh(token, scope="read").status_code == 200


def test_refresh_tokens_that_stay(app: App) -> None:
    app.set(rotates=False)
    token = app.connect()["refresh_token"]
    assert app.refresh(token).json()["refresh_token"] == token
    app.set(refresh_token="first")
    assert "refresh_token" not in app.refresh(token).json()
    assert app.refresh(token).status_code == 200
    app.set(refresh_token="never")
    assert "refresh_token" not in app.connect()


def test_lives_end(app: App) -> None:
    app.set(access_seconds=0)
    tokens = app.connect()
    assert not app.can_call(tokens["access_token"])
    answer = app.client.get("/oauth/resource", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert app.client.get("/oauth/resource?soft=1").json() == {"ok": False, "error": "token_expired"}
    app.set(refresh_seconds=0)
    assert error_of(app.refresh(app.connect()["refresh_token"])) == "invalid_grant"


def test_the_user_takes_it_back(app: App) -> None:
    tokens = app.connect()
    assert app.client.sandbox.revoke_grants(app.id) == 1
    assert not app.can_call(tokens["access_token"])
    assert error_of(app.refresh(tokens["refresh_token"])) == "invalid_grant"


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_revocation_ends_the_grant_and_is_quiet_about_foreign_tokens(app: App, name: str) -> None:
    tokens = app.connect()
    other = App(app.client, f"{app.id}-other")
    other.set(client_secret="other")

    def revoke(auth: tuple[str, str]) -> int:
        return app.client.post("/oauth/revoke", data={"token": tokens[name]}, auth=auth).status_code

    assert revoke((other.id, "other")) == 200
    assert app.can_call(tokens["access_token"])
    assert revoke((app.id, "wrong")) == 401
    assert revoke((app.id, "a+client+secret+with+%3A+and+%25")) == 200
    assert not app.can_call(tokens["access_token"])


def test_both_ways_of_client_authentication(app: App) -> None:
    fields = {"grant_type": "client_credentials"}
    in_body = fields | {"client_id": app.id, "client_secret": SECRET}
    assert app.post(fields).status_code == 200
    assert app.post(in_body, auth=None).status_code == 200
    assert error_of(app.post(in_body)) == "invalid_request"  # both at once
    assert error_of(app.post(fields | {"client_id": app.id}, auth=None)) == "invalid_client"
    assert error_of(app.post(in_body | {"client_secret": "wrong"}, auth=None)) == "invalid_client"
    assert error_of(app.post(fields, auth=("nobody", SECRET))) == "invalid_client"
    assert error_of(app.post(fields | {"client_id": "another"})) == "invalid_request"
    app.set(authentication=["basic"])
    assert error_of(app.post(in_body, auth=None)) == "invalid_client"
    app.set(authentication=["body"])
    refused = app.post(fields)
    assert error_of(refused) == "invalid_client"
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="sandbox"'


def test_a_public_client_has_pkce_and_nothing_else(app: App) -> None:
    app.set(client_secret=None)
    fields = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "client_id": app.id}
    answer = app.post(fields | {"code": app.back()["code"], "code_verifier": VERIFIER}, auth=None)
    assert answer.status_code == 200
    refused = app.post({"grant_type": "client_credentials", "client_id": app.id}, auth=None)
    assert error_of(refused) == "unauthorized_client"


def test_client_credentials_give_no_refresh_token(app: App) -> None:
    tokens = app.post({"grant_type": "client_credentials", "scope": "read"}).json()
    assert "refresh_token" not in tokens
    assert app.can_call(tokens["access_token"])
    assert error_of(app.post({"grant_type": "client_credentials", "scope": "admin"})) == "invalid_scope"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"params": {"grant_type": "client_credentials"}}, "invalid_request"),
        ({"headers": {"Content-Type": "text/plain"}}, "invalid_request"),
        ({"data": "grant_type=client_credentials&scope=read&scope=write"}, "invalid_request"),
        ({"data": b"grant_type=\xff"}, "invalid_request"),
        ({"data": "grant_type=password"}, "unsupported_grant_type"),
        ({"data": "", "json": {"grant_type": "client_credentials"}}, "invalid_request"),
        ({"data": "", "json": {"grant_type": ["client_credentials"]}}, "invalid_request"),
        ({"headers": {"Authorization": "Basic !"}}, "invalid_client"),
        ({"headers": {"Authorization": "Bearer x"}}, "invalid_client"),
    ],
)
def test_malformed_token_requests(app: App, options: dict[str, Any], error: str) -> None:
    data = options.pop("data", "grant_type=client_credentials")
    headers = {"Content-Type": "application/x-www-form-urlencoded"} | options.pop("headers", {})
    if "json" in options:
        data, headers["Content-Type"] = json.dumps(options.pop("json")), "application/json"
    auth = None if "Authorization" in headers else (app.id, "a+client+secret+with+%3A+and+%25")
    answer = app.client.post("/oauth/token", data=data, headers=headers, auth=auth, **options)
    assert error_of(answer) == error


def test_json_token_requests_where_the_client_wants_them(app: App) -> None:
    app.set(token_body="json")
    fields = {"grant_type": "client_credentials", "client_id": app.id, "client_secret": SECRET}
    assert app.client.post("/oauth/token", json=fields).status_code == 200
    assert error_of(app.client.post("/oauth/token", data=fields)) == "invalid_request"


# --- devices and assertions ---------------------------------------------------------------------------------------


def test_a_device_waits_for_its_user(app: App) -> None:
    app.set(device_interval_seconds=0)
    auth = (app.id, "a+client+secret+with+%3A+and+%25")
    started = app.client.post("/oauth/device_authorization", data={"scope": "read"}, auth=auth).json()
    assert started["verification_uri"] == f"{app.client.sandbox.url}/oauth/device"
    poll = {"grant_type": DEVICE_CODE, "device_code": started["device_code"]}
    assert error_of(app.post(poll)) == "authorization_pending"
    page = app.client.get(f"/oauth/device?user_code={started['user_code'].lower()}")
    assert started["user_code"] in page.text
    app.client.post("/oauth/device", data={"user_code": started["user_code"], "decision": "approve"})
    tokens = app.post(poll).json()
    assert tokens["scope"] == "read"
    assert app.refresh(tokens["refresh_token"]).status_code == 200
    assert error_of(app.post(poll)) == "invalid_grant"
    assert app.client.get(f"/oauth/device?user_code={started['user_code']}").status_code == 400


def test_a_device_that_hurries_is_denied_or_too_late(app: App) -> None:
    auth = (app.id, "a+client+secret+with+%3A+and+%25")
    app.set(device_interval_seconds=60)
    started = app.client.post("/oauth/device_authorization", auth=auth, data={}, headers=FORM).json()
    poll = {"grant_type": DEVICE_CODE, "device_code": started["device_code"]}
    assert error_of(app.post(poll)) == "authorization_pending"
    assert error_of(app.post(poll)) == "slow_down"
    app.set(device_interval_seconds=0)
    denied = app.client.post("/oauth/device_authorization", auth=auth, data={}, headers=FORM).json()
    app.client.post("/oauth/device", data={"user_code": denied["user_code"], "decision": "deny"})
    assert error_of(app.post(poll | {"device_code": denied["device_code"]})) == "access_denied"
    app.set(device_seconds=0)
    late = app.client.post("/oauth/device_authorization", auth=auth, data={}, headers=FORM).json()
    assert error_of(app.post(poll | {"device_code": late["device_code"]})) == "expired_token"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk_of(key: rsa.RSAPrivateKey) -> dict[str, str]:
    whole = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {name: str(whole[name]) for name in ("n", "e")}


@pytest.mark.parametrize(
    ("claims", "how", "error"),
    [
        ({}, {}, None),
        ({"aud": ["https://else.example", "TOKEN_URL"]}, {}, None),
        ({"aud": "https://else.example"}, {}, "invalid_grant"),
        ({"aud": None}, {}, "invalid_grant"),
        ({"exp": 1}, {}, "invalid_grant"),
        ({"exp": "soon"}, {}, "invalid_grant"),
        ({"exp": int(time.time()) + 10_000}, {}, "invalid_grant"),
        ({"iat": int(time.time()) + 3_000}, {}, "invalid_grant"),
        ({"iss": "nobody"}, {}, "invalid_client"),
        ({"scope": "admin"}, {}, "invalid_scope"),
        ({}, {"kid": "other"}, "invalid_grant"),
        ({}, {"algorithm": "HS256", "key": "x" * 32}, "invalid_grant"),
        ({}, {"algorithm": "none", "key": None}, "invalid_grant"),
    ],
)
def test_assertions(
    app: App, private_key: rsa.RSAPrivateKey, claims: dict[str, Any], how: dict[str, Any], error: str | None
) -> None:
    app.set(rsa_key={**jwk_of(private_key), "kid": "k1"})
    now, url = int(time.time()), f"{app.client.sandbox.url}/oauth/token"
    claims = {"iss": app.id, "aud": url, "iat": now, "exp": now + 600, "scope": "read"} | claims
    if isinstance(claims["aud"], list):
        claims["aud"][1] = url
    how = {"kid": "k1", "algorithm": "RS256", "key": private_key} | how
    key: Any = how["key"]
    assertion = jwt.encode(claims, key, str(how["algorithm"]), headers={"kid": how["kid"]})
    answer = app.post({"grant_type": JWT_BEARER, "assertion": assertion}, auth=None)
    if error is None:
        assert app.can_call(answer.json()["access_token"])
        assert answer.json()["scope"] == "read"
    else:
        assert error_of(answer) == error


@pytest.mark.parametrize("assertion", ["", "a.b", "a.b.c", "e30.e30.", "!.!.!"])
def test_malformed_assertions(app: App, assertion: str) -> None:
    assert error_of(app.post({"grant_type": JWT_BEARER, "assertion": assertion}, auth=None)) in {
        "invalid_grant",
        "invalid_client",  # of nobody
    }


def test_a_changed_assertion_is_refused(app: App, private_key: rsa.RSAPrivateKey) -> None:
    app.set(rsa_key=jwk_of(private_key))
    now = int(time.time())
    claims = {"iss": app.id, "aud": app.client.sandbox.url, "iat": now, "exp": now + 600}
    head, body, signature = jwt.encode(claims, private_key, "RS256").split(".")
    other = jwt.encode(claims | {"scope": "write"}, private_key, "RS256").split(".")[1]
    for assertion in (f"{head}.{other}.{signature}", f"{head}.{body}.{signature[:-4]}AAAA", f"{head}.{body}."):
        assert error_of(app.post({"grant_type": JWT_BEARER, "assertion": assertion}, auth=None)) == "invalid_grant"
