"""Each scheme: what passes, what does not, and that the reason is given without the secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import time
from typing import Any

import pytest
import requests
from requests_oauthlib import OAuth1

from connections.sandbox import credentials as c
from tests.connections.sandbox.conftest import Client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


RIGHT: dict[str, dict[str, Any]] = {
    "api-key-header": {"headers": {"X-API-Key": c.API_KEY}},
    "api-key-query": {"params": {"api_key": c.QUERY_API_KEY}},
    "basic": {"headers": basic(c.BASIC_USERNAME, c.BASIC_PASSWORD)},
    "bearer": {"headers": bearer(c.BEARER_TOKEN)},
    "client-credentials": {"headers": bearer(c.CLIENT_CREDENTIALS_TOKEN)},
    "headers": {"headers": {"X-App-Id": c.APP_ID, "X-App-Key": c.APP_KEY}},
    "none": {},
    "oauth2": {"headers": bearer(c.OAUTH2_ACCESS_TOKEN)},
}
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("api-key-header", {}, "missing_header"),
    ("api-key-header", {"headers": {"X-API-Key": c.API_KEY + "x"}}, "wrong_key"),
    ("api-key-header", {"headers": {"X-API-Key": "Bearer " + c.API_KEY}}, "wrong_key"),
    ("api-key-query", {}, "missing_parameter"),
    ("api-key-query", {"headers": {"X-API-Key": c.QUERY_API_KEY}}, "missing_parameter"),
    ("api-key-query", {"params": {"api_key": "wrong-secret-value"}}, "wrong_key"),
    ("api-key-query", {"params": {"api_key": [c.QUERY_API_KEY, c.QUERY_API_KEY]}}, "duplicate_parameter"),
    ("basic", {}, "missing_header"),
    ("basic", {"headers": bearer(c.BASIC_PASSWORD)}, "wrong_scheme"),
    ("basic", {"headers": {"Authorization": "Basic not*base64"}}, "bad_encoding"),
    ("basic", {"headers": {"Authorization": "Basic /////w=="}}, "bad_encoding"),
    ("basic", {"headers": {"Authorization": "Basic bm9jb2xvbg=="}}, "bad_encoding"),
    ("basic", {"headers": basic("somebody", c.BASIC_PASSWORD)}, "wrong_username"),
    ("basic", {"headers": basic(c.BASIC_USERNAME, "wrong-secret-value")}, "wrong_password"),
    ("bearer", {}, "missing_header"),
    ("bearer", {"headers": {"Authorization": c.BEARER_TOKEN}}, "wrong_scheme"),
    ("bearer", {"headers": {"Authorization": "Bearer"}}, "wrong_scheme"),
    ("bearer", {"headers": {"Authorization": "Token " + c.BEARER_TOKEN}}, "wrong_scheme"),
    ("bearer", {"headers": bearer("wrong-secret-value")}, "wrong_token"),
    ("bearer", {"headers": bearer(c.OAUTH2_ACCESS_TOKEN)}, "wrong_token"),
    ("client-credentials", {"headers": bearer(c.BEARER_TOKEN)}, "wrong_token"),
    ("headers", {}, "missing_header"),
    ("headers", {"headers": {"X-App-Id": c.APP_ID}}, "missing_header"),
    ("headers", {"headers": {"X-App-Id": c.APP_ID, "X-App-Key": "wrong-secret-value"}}, "wrong_key"),
    ("hmac", {}, "missing_header"),
    ("oauth1", {}, "missing_header"),
    ("oauth1", {"headers": bearer(c.OAUTH1_TOKEN)}, "wrong_scheme"),
    ("oauth1", {"headers": {"Authorization": "OAuth nonsense"}}, "bad_header"),
    ("oauth1", {"headers": {"Authorization": 'OAuth oauth_token="a"'}}, "missing_parameter"),
    ("oauth2", {"headers": bearer("wrong-secret-value")}, "wrong_token"),
]


@pytest.mark.parametrize("scheme", RIGHT)
def test_the_right_credential_opens_every_path(client: Client, scheme: str) -> None:
    for path in ("/me", "/whoami", "/balance", "/status/200", "/items/page"):
        assert client.get(f"/auth/{scheme}{path}", **RIGHT[scheme]).status_code == 200
    assert client.get(f"/auth/{scheme}/me", **RIGHT[scheme]).json()["scheme"] == scheme


@pytest.mark.parametrize("scheme", RIGHT)
def test_echo_hides_what_was_checked(client: Client, scheme: str) -> None:
    answer = client.post(f"/auth/{scheme}/echo?a=1&a=2&b=", json={"n": [1]}, **RIGHT[scheme])
    echoed = answer.json()
    assert (echoed["method"], echoed["path"]) == ("POST", f"/auth/{scheme}/echo")
    assert echoed["query"]["a"] == ["1", "2"]
    assert echoed["json"] == {"n": [1]}
    assert not any(secret in answer.text for secret in c.SECRETS)
    if scheme != "none":
        assert "[checked]" in answer.text


@pytest.mark.parametrize(("scheme", "options", "code"), WRONG)
def test_anything_else_is_401_with_the_reason(client: Client, scheme: str, options: dict[str, Any], code: str) -> None:
    answer = client.get(f"/auth/{scheme}/me", **options)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code
    assert answer.headers["WWW-Authenticate"]
    assert not any(secret in answer.text for secret in [*c.SECRETS, "wrong-secret-value"])


def test_the_check_comes_before_the_path(client: Client) -> None:
    assert client.get("/auth/bearer/nowhere").status_code == 401
    assert client.get("/auth/bearer/nowhere", headers=bearer(c.BEARER_TOKEN)).status_code == 404


def test_a_credential_sent_twice_is_refused(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.sandbox.port, timeout=5)
    connection.putrequest("GET", "/auth/bearer/me")
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {c.BEARER_TOKEN}")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 401
    assert b"duplicate_header" in answer.read()
    connection.close()


def sign_hmac(method: str, path: str, body: bytes, *, at: float | None = None) -> dict[str, str]:
    timestamp = str(int(time.time() if at is None else at))
    text = "\n".join([method, path, timestamp, ""]).encode() + body
    signature = hmac.new(c.HMAC_SECRET.encode(), text, hashlib.sha256).hexdigest()
    return {"X-Timestamp": timestamp, "X-Signature": signature}


class TestHmac:
    def test_signed_with_query_and_body(self, client: Client) -> None:
        path = "/auth/hmac/echo?b=2&a=%20x"
        answer = client.post(path, data=b'{"data": "example"}', headers=sign_hmac("POST", path, b'{"data": "example"}'))
        assert answer.status_code == 200
        assert answer.json()["headers"]["X-Signature"] == "[checked]"

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [("GET", "/auth/hmac/echo", b"a"), ("POST", "/auth/hmac/echo?x", b"a"), ("POST", "/auth/hmac/echo", b"b")],
    )
    def test_every_part_is_signed(self, client: Client, method: str, path: str, body: bytes) -> None:
        answer = client.post("/auth/hmac/echo", data=b"a", headers=sign_hmac(method, path, body))
        assert answer.json()["error"]["code"] == "signature_mismatch"
        right = sign_hmac("POST", "/auth/hmac/echo", b"a")["X-Signature"]
        assert right not in answer.text

    @pytest.mark.parametrize(("age", "is_fresh"), [(290, True), (-290, True), (310, False), (-310, False)])
    def test_tolerance_of_300_seconds(self, client: Client, age: float, is_fresh: bool) -> None:
        answer = client.get("/auth/hmac/me", headers=sign_hmac("GET", "/auth/hmac/me", b"", at=time.time() - age))
        assert answer.status_code == (200 if is_fresh else 401)
        assert is_fresh or answer.json()["error"]["code"] == "stale_timestamp"

    @pytest.mark.parametrize("timestamp", ["", "now", "1.5", "-1", "1" * 13])
    def test_timestamps_are_whole_seconds(self, client: Client, timestamp: str) -> None:
        headers = {**sign_hmac("GET", "/auth/hmac/me", b""), "X-Timestamp": timestamp}
        answer = client.get("/auth/hmac/me", headers=headers)
        assert answer.json()["error"]["code"] == "bad_timestamp"


def oauth1(**changes: Any) -> OAuth1:
    """Signed by requests-oauthlib, which shares no code with the sandbox's check."""
    options = {
        "client_key": c.OAUTH1_CONSUMER_KEY,
        "client_secret": c.OAUTH1_CONSUMER_SECRET,
        "resource_owner_key": c.OAUTH1_TOKEN,
        "resource_owner_secret": c.OAUTH1_TOKEN_SECRET,
        **changes,
    }
    return OAuth1(**options)


class TestOAuth1:
    @pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256"])
    @pytest.mark.parametrize("path", ["/echo", "/echo?b=2&a=1&a=%20%C3%A9~*&c=", "/echo/a%20b"])
    def test_query_and_form_are_part_of_the_signature(self, client: Client, method: str, path: str) -> None:
        auth = oauth1(signature_method=method)
        assert client.get(f"/auth/oauth1{path}", auth=auth).status_code == 200
        answer = client.post(f"/auth/oauth1{path}", data={"x": "1 & 2", "y[0]": "é"}, auth=auth)
        assert answer.status_code == 200
        assert answer.json()["form"]["x"] == "1 & 2"
        assert client.post(f"/auth/oauth1{path}", json={"a": 1}, auth=auth).status_code == 200

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"client_secret": "wrong-secret-value"}, "signature_mismatch"),
            ({"resource_owner_secret": "wrong-secret-value"}, "signature_mismatch"),
            ({"client_key": "somebody"}, "wrong_consumer_key"),
            ({"resource_owner_key": "somebody"}, "wrong_token"),
            ({"resource_owner_key": None}, "missing_parameter"),
            ({"signature_method": "PLAINTEXT"}, "bad_signature_method"),
            ({"timestamp": "1500000000"}, "stale_timestamp"),
            ({"timestamp": "soon"}, "bad_timestamp"),
            ({"nonce": "n" * 300}, "bad_nonce"),
        ],
    )
    def test_refusals(self, client: Client, changes: dict[str, Any], code: str) -> None:
        answer = client.get("/auth/oauth1/me", auth=oauth1(**changes))
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == code

    def test_a_nonce_is_good_once(self, client: Client) -> None:
        auth = oauth1(nonce="nonce-used-twice", timestamp=str(int(time.time())))
        assert client.get("/auth/oauth1/me", auth=auth).status_code == 200
        answer = client.get("/auth/oauth1/me", auth=auth)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "nonce_used"

    def test_a_changed_query_breaks_the_signature(self, client: Client) -> None:
        prepared = requests.Request("GET", f"{client.sandbox.url}/auth/oauth1/me?a=1", auth=oauth1()).prepare()
        assert prepared.url is not None
        prepared.url = prepared.url.replace("a=1", "a=2")
        answer = client.session.send(prepared, timeout=5)
        assert answer.json()["error"]["code"] == "signature_mismatch"
