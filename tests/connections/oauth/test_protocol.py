"""`renew` by each grant, and what it makes of answers that nobody promised."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from connections.oauth.protocol import renew
from connections.oauth.tokens import Tokens
from external_apis.api_config import parse
from external_apis.errors import GrantRefused, InvalidInput, MissingCredential, TokenEndpointFailed
from tests.sandbox import Sandbox
from tests.sockets import Play, answering, read_head, serve, trickle
from tests.token_server import TokenServer, hang_up, http, token_server

SECRET = "client-secret-of-the-tests"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600}


@pytest.fixture(autouse=True)
def _allowed(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as started:
        yield started


def oauth2(url: str, **block: Any) -> Any:
    urls = {"authorization_url": f"{url}/authorize", "token_url": f"{url}/token"}
    data = {"client_id": "client-1", "client_secret": SECRET, **urls, **block}
    return parse({"base_url": url, "auth_type": "oauth2", "oauth2": data}, environment="development")


def machine(url: str, **block: Any) -> Any:
    data = {"token_url": f"{url}/oauth/token", **block}
    config = {"base_url": url, "auth_type": "client_credentials", "client_credentials": data}
    return parse(config, environment="development")


def robot(url: str, **block: Any) -> Any:
    config = {"base_url": url, "auth_type": "jwt_bearer", "jwt_bearer": {"token_url": f"{url}/oauth/token", **block}}
    return parse(config, environment="development")


def ask(config: Any, credentials: dict[str, str] | None = None, seconds: float = 5, **data: str) -> Tokens:
    given = {"refresh_token": "rt-of-the-tests"} if credentials is None else credentials
    return renew(config, given, data, deadline=time.monotonic() + seconds, clock=lambda: NOW)


# --- grants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_auth", ["basic", "body"])
def test_a_refresh_proves_the_client_as_configured(server: TokenServer, client_auth: str) -> None:
    heads: list[bytes] = []

    def play(client: Any) -> None:
        heads.append(read_head(client))
        client.sendall(http(200, GOOD))

    with serve(play) as port:
        ask(oauth2(f"http://127.0.0.1:{port}", client_auth=client_auth, client_id="id with : in it"))
    head, _, body = heads[0].partition(b"\r\n\r\n")
    assert (b"Authorization: Basic aWQrd2l0aCslM0EraW4raXQ6" in head) is (client_auth == "basic")
    if body:
        assert (SECRET.encode() in body) is (client_auth == "body")


def test_a_refresh_goes_where_it_belongs_with_what_the_provider_wants(server: TokenServer) -> None:
    config = oauth2("https://elsewhere.example", refresh_url=f"{server.url}/refresh", token_params={"audience": "a"})
    server.answers = [http(200, {**GOOD, "refresh_token": "rt-2", "scope": "a b"})]
    tokens = ask(config)
    assert server.requests == [
        {
            "grant_type": "refresh_token", "refresh_token": "rt-of-the-tests", "client_id": "client-1",
            "client_secret": SECRET, "audience": "a",
        }
    ]  # fmt: skip
    assert (tokens.access_token, tokens.refresh_token, tokens.scopes) == ("at-1", "rt-2", ("a", "b"))
    assert tokens.expires_at == NOW + timedelta(hours=1)


def test_a_public_client_has_no_secret(server: TokenServer) -> None:
    server.answers = [http(200, GOOD)]
    ask(oauth2(server.url, client_secret=None, client_auth="basic"))
    assert "client_secret" not in server.requests[0]
    assert server.requests[0]["client_id"] == "client-1"


@pytest.mark.parametrize("own", [{}, {"client_id": "machine-of-tests", "client_secret": SECRET}])
def test_client_credentials_of_the_provider_or_of_the_connection(sandbox: Sandbox, own: dict[str, str]) -> None:
    sandbox.register("machine-of-tests", client_secret=SECRET)
    block = {} if own else {"client_id": "machine-of-tests", "client_secret": SECRET}
    tokens = ask(machine(sandbox.url, scopes=["read"], **block), own)
    assert (tokens.scopes, tokens.refresh_token) == (("read",), None)


@cache
def rsa_pem() -> tuple[str, dict[str, str]]:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return _pem(key), {name: public[name] for name in ("n", "e")}


def _pem(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    text: str = key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    return text


def test_an_assertion_gets_a_token(sandbox: Sandbox) -> None:
    pem, public = rsa_pem()
    sandbox.register("robot-of-tests", rsa_key=public)
    account = {
        "private_key": pem,
        "private_key_id": "k1",
        "client_email": "robot-of-tests",
        "token_uri": "https://evil",
    }
    for credentials, block in (
        ({"private_key": pem}, {"issuer": "robot-of-tests"}),
        ({"private_key": json.dumps(account)}, {}),
        ({}, {"private_key": pem, "issuer": "robot-of-tests"}),
    ):
        tokens = renew(robot(sandbox.url, scopes=["read"], **block), credentials, {}, deadline=time.monotonic() + 5)
        assert tokens.access_token


def test_what_an_assertion_says(server: TokenServer) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    server.answers = [http(200, GOOD)]
    config = robot(
        server.url, algorithm="ES256", audience="https://aud.example", subject="user@x", scopes=["a", "b"],
        claims={"target": "t"}, key_id="k9",
    )  # fmt: skip
    ask(config, {"private_key": _pem(key), "issuer": "me"})
    assertion = server.requests[0]["assertion"]
    claims = jwt.decode(
        assertion, key.public_key(), ["ES256"], audience="https://aud.example", options={"verify_exp": False}
    )
    assert jwt.get_unverified_header(assertion)["kid"] == "k9"
    assert {name: claims[name] for name in ("iss", "sub", "scope", "target")} == {
        "iss": "me", "sub": "user@x", "scope": "a b", "target": "t",
    }  # fmt: skip
    assert claims["exp"] == int(NOW.timestamp()) + 300
    assert claims["iat"] == int(NOW.timestamp()) - 10


@pytest.mark.parametrize(
    "key", ["", "no key", "{}", "{", '{"private_key": 5, "client_email": "x"}', "-----BEGIN PRIVATE KEY-----\nxx\n"]
)
def test_a_private_key_that_is_none(server: TokenServer, key: str) -> None:
    with pytest.raises(MissingCredential, match="private_key") as caught:
        ask(robot(server.url, issuer="me"), {"private_key": key})
    assert server.requests == []
    assert not key or key not in caught.value.message


def test_a_key_of_another_kind_than_the_algorithm(server: TokenServer) -> None:
    with pytest.raises(MissingCredential, match="P-256"):
        ask(robot(server.url, issuer="me", algorithm="ES256"), {"private_key": rsa_pem()[0]})
    with pytest.raises(MissingCredential, match="issuer"):
        ask(robot(server.url), {"private_key": rsa_pem()[0]})


def test_what_cannot_be_renewed_says_so_in_the_seeds_words(server: TokenServer) -> None:
    with pytest.raises(InvalidInput, match=r"^No refresh token available$"):
        ask(oauth2(server.url), {"access_token": "at"})
    bearer = parse({"base_url": server.url, "auth_type": "bearer"}, environment="development")
    with pytest.raises(InvalidInput, match=r"^Token refresh only supported for OAuth 2\.0$"):
        ask(bearer)
    with pytest.raises(MissingCredential, match="client_id"):
        ask(machine(server.url), {})


# --- what answers mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "is_final"),
    [
        (http(400, {"error": "invalid_grant", "error_description": "Revoked."}), "invalid_grant", True),
        (http(401, {"error": "invalid_client"}), "invalid_client", False),
        (http(400, {"error": "unauthorized_client"}), "unauthorized_client", False),
        (http(400, {"error": {"type": "OAuthException", "message": "Bad"}}), "OAuthException", False),
        (http(200, {"error": "bad_refresh_token"}), "bad_refresh_token", True),
    ],
)
def test_a_definite_no(server: TokenServer, answer: bytes, error: str, is_final: bool) -> None:
    server.answers = [answer]
    with pytest.raises(GrantRefused) as caught:
        ask(oauth2(server.url, final_errors=["bad_refresh_token"]))
    assert (caught.value.error, caught.value.is_final, caught.value.may_have_happened) == (error, is_final, False)
    assert error in caught.value.message


HOSTILE = [
    b"", b"<html>maintenance</html>", b"\xff\xfe\x00", b"[]", b"null", b'"text"', b"{", b'{"access_token": ""}',
    b'{"access_token": null}', b'{"access_token": ["a"]}', b'{"access_token": true}', b'{"access_token": "a\\u0000b"}',
    b'{"access_token": "a\\nb"}', b'{"access_token": "\\u00fc"}', b'{"access_token": "a", "access_token": "b"}',
    b'{"access_token": "a", "refresh_token": {"b": 1}}', b'{"access_token": "a", "error": "server_error"}',
    b'{"access_token": "a", "ok": false}', b'{"error": "invalid_grant"}', b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"access_token": "' + b"x" * 20_001 + b'"}', b'{"access_token": 1e400}',
]  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: body[:40].decode("latin-1").strip("\0"))
def test_a_200_without_usable_tokens_changes_nothing(server: TokenServer, body: bytes) -> None:
    server.answers = [http(200, body)]
    with pytest.raises(TokenEndpointFailed) as caught:
        ask(oauth2(server.url))
    assert caught.value.is_transient
    assert not caught.value.may_have_happened
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("status", [302, 307, 400, 404, 408, 429, 500, 503])
def test_statuses_without_an_error_in_them_are_transient(server: TokenServer, status: int) -> None:
    server.answers = [http(status, b"<html>oops</html>", "Retry-After: 7")]
    with pytest.raises(TokenEndpointFailed) as caught:
        ask(oauth2(server.url))
    assert caught.value.retry_after_seconds == 7
    assert not caught.value.may_have_happened


@pytest.mark.parametrize("status", [502, 504, 520, 524])
def test_a_gateway_does_not_know_what_happened(server: TokenServer, status: int) -> None:
    server.answers = [http(status, b"<html>Bad gateway</html>")]
    with pytest.raises(TokenEndpointFailed) as caught:
        ask(oauth2(server.url))
    assert (caught.value.may_have_happened, caught.value.is_lasting) == (True, False)


def test_a_5xx_is_transient_whatever_it_says(server: TokenServer) -> None:
    server.answers = [http(503, {"error": "invalid_grant"})]
    with pytest.raises(TokenEndpointFailed):
        ask(oauth2(server.url))


def test_a_307_takes_no_secret_along(server: TokenServer) -> None:
    with token_server() as other:
        server.answers = [http(307, b"", f"Location: {other.url}/token")]
        with pytest.raises(TokenEndpointFailed, match="status 307"):
            ask(oauth2(server.url))
    assert other.requests == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("play", "may_have_happened"),
    [
        (hang_up, True),
        (trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x"), True),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), True),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"), True),
    ],
)
def test_an_answer_that_does_not_come_may_have_happened(play: Play, may_have_happened: bool) -> None:
    def drained(client: Any) -> None:
        if play is hang_up:
            read_head(client)
        play(client)

    with serve(drained) as port, pytest.raises(TokenEndpointFailed) as caught:
        ask(oauth2(f"http://127.0.0.1:{port}"), seconds=0.4)
    assert caught.value.may_have_happened is may_have_happened


def test_what_was_never_sent_did_not_happen(settings: Any) -> None:
    with serve(lambda client: None) as port:
        closed = port
    config = oauth2(f"http://127.0.0.1:{closed}")
    with pytest.raises(TokenEndpointFailed) as caught:
        ask(config)
    assert not caught.value.may_have_happened
    with pytest.raises(TokenEndpointFailed) as caught:
        ask(config, seconds=-1)
    assert not caught.value.may_have_happened
    settings.EGRESS_ALLOW = []
    with pytest.raises(TokenEndpointFailed, match="refused") as caught:
        ask(config)
    assert not caught.value.may_have_happened


def test_no_message_repeats_a_secret(server: TokenServer) -> None:
    long_token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlc2lnbmF0dXJl"
    for words in (
        "Token rt-of-the-tests is bad",
        f"secret {SECRET} wrong",
        f"leaked {long_token}",
        "a\nb\x1b[31m" * 99,
    ):
        for name in ("error", "error_description"):
            server.answers = [http(400, {"error": "invalid_grant", name: words})]
            with pytest.raises((GrantRefused, TokenEndpointFailed)) as caught:
                ask(oauth2(server.url))
            told = f"{caught.value!r} {caught.value.details} {caught.value.message}"
            assert not any(secret in told for secret in ("rt-of-the-tests", SECRET, long_token, "\n", "\x1b"))
            assert len(caught.value.message) < 300


# --- expiry, scopes, facts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "seconds"),
    [
        ("seconds", 60, 60), ("seconds", "60", 60), ("seconds", 59.6, 59.6), ("seconds", None, None),
        ("seconds", 0, None),
        ("seconds", "soon", 3600), ("seconds", -5, 3600), ("seconds", True, 3600), ("seconds", "NaN", 3600),
        ("seconds", [1], 3600), ("seconds", {"a": 1}, 3600), ("seconds", 10**30, 3_153_600_000),
        ("timestamp", NOW.timestamp() + 60, 60), ("timestamp", str(int(NOW.timestamp()) + 60), 60),
        ("timestamp", 10**30, 3600), ("timestamp_ms", int(NOW.timestamp() + 60) * 1000, 60),
        ("date", "2026-01-02T03:05:05Z", 60), ("date", "2026-01-02T03:05:05", 60),
        ("date", "2026-01-02T05:05:05+02:00", 60), ("date", "Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("date", "next week", 3600), ("date", 5, 3600), ("date", "2026-13-45T00:00:00Z", 3600),
    ],
)  # fmt: skip
def test_expiries(server: TokenServer, kind: str, value: Any, seconds: float | None) -> None:
    server.answers = [http(200, {"access_token": "at", "x": {"end": value}})]
    tokens = ask(oauth2(server.url, expires_kind=kind, expires_path="x.end"))
    assert tokens.expires_at == (None if seconds is None else NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("value", "separator", "scopes"),
    [
        ("a b  c", " ", ("a", "b", "c")), ("a,b,,a", ",", ("a", "b")), ("a;b", ";", ("a", "b")),
        (["a", 5, "b"], " ", ("a", "b")),
        ("", " ", ()), (None, " ", None), (7, " ", None), ({"a": 1}, " ", None), ("x" * 501, " ", ()),
    ],
)  # fmt: skip
def test_granted_scopes(server: TokenServer, value: Any, separator: str, scopes: tuple[str, ...] | None) -> None:
    server.answers = [http(200, {**GOOD, "scope": value})]
    assert ask(oauth2(server.url, scope_separator=separator)).scopes == scopes


def test_an_answer_may_be_a_form() -> None:
    body = b"access_token=at-form&expires_in=60&scope=a%20b"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with serve(answering(head + body)) as port:
        tokens = ask(oauth2(f"http://127.0.0.1:{port}"))
    assert (tokens.access_token, tokens.scopes) == ("at-form", ("a", "b"))


def test_facts_are_kept_but_no_tokens(server: TokenServer) -> None:
    fields = {"team_id": "team.id", "again": "access_token", "odd": "team", "long": "long"}
    server.answers = [http(200, {**GOOD, "team": {"id": 5}, "long": "x" * 900})]
    assert ask(oauth2(server.url, kept_answer_fields=fields)).provider_data == {"team_id": "5", "long": "x" * 500}


def test_url_variables_stand_in_token_urls(server: TokenServer) -> None:
    config = parse(
        {
            "base_url": f"{server.url}/{{shop}}", "auth_type": "oauth2", "url_variables": {"shop": {}},
            "oauth2": {
                "client_id": "c", "authorization_url": f"{server.url}/{{shop}}/a",
                "token_url": f"{server.url}/{{shop}}/t",
            },
        },
        environment="development",
    )  # fmt: skip
    server.answers = [http(200, GOOD)]
    assert ask(config, shop="acme").access_token == "at-1"
    with pytest.raises(InvalidInput, match="shop"):
        ask(config)


def test_tokens_travel_as_text_and_show_nothing() -> None:
    tokens = Tokens("at-secret", "rt-secret", "Bearer", NOW, ("a",), {"team": "T"})
    assert Tokens.from_json(tokens.to_json()) == tokens
    assert Tokens.from_json(Tokens("at").to_json()) == Tokens("at")
    assert "secret" not in f"{tokens!r} {tokens}"
    with pytest.raises(TypeError):
        __import__("pickle").dumps(tokens)
