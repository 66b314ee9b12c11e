"""Metadata of authorization servers: a real provider's, and those of servers that lie."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from external_apis import discovery
from external_apis.api_config import parse
from external_apis.discovery import discover, oauth2_config
from external_apis.errors import BadAnswer, ConnectFailed, EgressRefused, InvalidInput
from tests.oidc_provider import OidcProvider
from tests.sockets import read_head, serve

Answer = Callable[[str, str], Any]
"""From the origin and the requested path to a JSON document, bytes, or None for 404."""


@pytest.fixture(autouse=True)
def _loopback(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.0/8"]


class Server:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.origin = ""
        self.paths: list[str] = []

    def play(self, client: socket.socket) -> None:
        path = read_head(client).split(b" ")[1].decode()
        self.paths.append(path)
        found = self.answer(self.origin, path)
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        head = b"HTTP/1.1 404 Not Found" if found is None else b"HTTP/1.1 200 OK"
        client.sendall(head + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def ask(answer: Answer, path: str = "") -> tuple[Any, Server]:
    server = Server(answer)
    with serve(server.play) as port:
        server.origin = f"http://127.0.0.1:{port}"
        try:
            return discover(server.origin + path), server
        except Exception as error:
            return error, server


def document(origin: str, **changes: Any) -> dict[str, Any]:
    return {
        "issuer": origin,
        "authorization_endpoint": f"{origin}/authorize",
        "token_endpoint": f"{origin}/token",
        **changes,
    }


def test_a_real_providers_document_becomes_a_configuration(oidc_provider: OidcProvider) -> None:
    config = oauth2_config(discover(oidc_provider.issuer))
    issuer = oidc_provider.issuer
    assert config == {
        "base_url": oidc_provider.origin,
        "auth_type": "oauth2",
        "oauth2": {
            "authorization_url": f"{issuer}/authorize/",
            "token_url": f"{issuer}/token/",
            "discovery_url": f"{issuer}/.well-known/openid-configuration",
            "issuer": issuer,
            "scopes": ["openid", "profile", "email"],
            "client_auth": "basic",
            "pkce": True,
            "iss_required": True,
            "revocation_url": f"{issuer}/revoke_token/",
        },
    }
    parse(config, environment="development")


def test_both_kinds_of_document_are_found_by_their_own_address(oidc_provider: OidcProvider) -> None:
    openid = discover(f"{oidc_provider.issuer}/.well-known/openid-configuration")
    oauth = discover(f"{oidc_provider.origin}/.well-known/oauth-authorization-server/o")
    assert (openid.issuer, oauth.issuer) == (oidc_provider.issuer, oidc_provider.issuer)
    assert oauth.text("token_endpoint") == openid.text("token_endpoint")


def test_an_issuer_without_openid_is_asked_by_rfc_8414() -> None:
    def answer(origin: str, path: str) -> Any:
        is_oauth = path == "/.well-known/oauth-authorization-server/a/b"
        return document(f"{origin}/a/b") if is_oauth else None

    found, server = ask(answer, "/a/b")
    assert found.issuer == f"{server.origin}/a/b"
    assert server.paths == ["/a/b/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/a/b"]


def test_a_slash_at_the_issuers_end_is_its_own_spelling() -> None:
    for given in ("", "/"):
        found, server = ask(lambda origin, path: document(f"{origin}/"), given)
        assert found.issuer == f"{server.origin}/"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda origin, path: None, "answered 404 instead of a document"),
        (lambda origin, path: b"<html>", "answered no JSON document"),
        (lambda origin, path: b'{"a": ' * 5000, "answered no JSON document"),
        (lambda origin, path: b'{"issuer": "a", "issuer": "b"}', "stands twice"),
        (lambda origin, path: [document(origin)], "answered no JSON object"),
        (lambda origin, path: document("https://evil.example"), "is of another issuer"),
        (lambda origin, path: document(f"{origin}/other"), "is of another issuer"),
        (lambda origin, path: document(f"{origin}.evil.example"), "is of another issuer"),
        (lambda origin, path: document(origin, issuer=None), "is of another issuer"),
        (lambda origin, path: document(origin, issuer=[origin]), "issuer is no text"),
        (lambda origin, path: b" " * 300_000 + json.dumps(document(origin)).encode(), "longer"),
    ],
)
def test_what_is_no_metadata_of_this_issuer_is_refused(answer: Answer, message: str) -> None:
    error, _ = ask(answer)
    assert isinstance(error, BadAnswer), error
    assert message in error.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_endpoint": None}, "names no authorization_endpoint or no token_endpoint"),
        ({"token_endpoint": {"a": 1}}, "token_endpoint is no text"),
        ({"scopes_supported": "openid"}, "scopes_supported is no list of texts"),
        ({"token_endpoint_auth_methods_supported": [1]}, "is no list of texts"),
        ({"revocation_endpoint": 5}, "revocation_endpoint is no text"),
    ],
)
def test_facts_of_a_wrong_type_are_refused(changes: dict[str, Any], message: str) -> None:
    found, _ = ask(lambda origin, path: document(origin, **changes))
    with pytest.raises(BadAnswer, match=message):
        oauth2_config(found)


def test_addresses_that_are_none_are_refused_by_the_schema() -> None:
    for address in ("javascript:alert(1)", "https://user:pw@evil.example/", "//evil.example", "https://a.example/?b=c"):
        found, _ = ask(lambda origin, path, address=address: document(origin, token_endpoint=address))  # type: ignore[misc]
        with pytest.raises(InvalidInput, match=r"oauth2\.token_url"):
            parse(oauth2_config(found), environment="development")


def test_a_servers_dialect_is_taken_over() -> None:
    found, _ = ask(
        lambda origin, path: document(
            origin,
            token_endpoint_auth_methods_supported=["client_secret_post", "private_key_jwt"],
            code_challenge_methods_supported=["plain"],
            scopes_supported=["read", "offline_access"],
            device_authorization_endpoint=f"{origin}/device",
        )
    )
    block = oauth2_config(found)["oauth2"]
    assert (block["client_auth"], block["pkce"], block["scopes"]) == ("body", False, ["offline_access"])
    assert block["device_authorization_url"] == f"{found.issuer}/device"
    assert block["iss_required"] is False


def test_redirects_are_not_followed() -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n")
        read_head(client)
        client.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n")

    with serve(play) as port, pytest.raises(BadAnswer, match="answered 302"):
        discover(f"http://127.0.0.1:{port}")


def test_the_guard_stands_before_it(settings: Any) -> None:
    settings.EGRESS_ALLOW = []
    with pytest.raises(EgressRefused):
        discover("http://169.254.169.254/latest")
    settings.EGRESS_ALLOW = ["127.0.0.0/8"]
    with pytest.raises(ConnectFailed):
        discover("http://127.0.0.1:1")


@pytest.mark.parametrize(
    "url", ["ftp://a.example", "a.example", "https://a.example/?x=1", "https://a.example/#x", "https://u:p@a.example"]
)
def test_what_is_no_issuer_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(InvalidInput):
        discover(url)


def test_an_issuer_with_tls_names_no_address_without() -> None:
    issuer = "https://issuer.example"
    plain = document(issuer, jwks_uri="http://issuer.example/keys")
    with pytest.raises(BadAnswer, match="without TLS as jwks_uri"):
        discovery._checked(issuer, issuer, plain)
