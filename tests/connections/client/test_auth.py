"""Every scheme against the sandbox, which checks strictly: right passes, wrong fails, missing is named."""

from __future__ import annotations

import base64
import pickle
import time
from dataclasses import replace
from typing import Any

import pytest
import requests

from connections.client import SCHEMES, ApiClient, Clock, RequestsAuth, make_scheme
from connections.client.outgoing import Outgoing
from connections.sandbox import credentials as known
from external_apis import catalogue
from external_apis.api_config import AUTH_TYPES, parse
from external_apis.errors import MissingCredential, UpstreamUnauthorized
from external_apis.transport import GuardedSession, Origin
from tests.connections.client.conftest import MakeClient, make_target
from tests.sandbox import Sandbox

REAL = Clock()
STATIC = (
    "bearer", "api-key-header", "api-key-query", "headers", "basic", "hmac", "oauth1", "oauth2", "client-credentials",
    "bearer-and-key", "aws-sigv4", "none",
)  # fmt: skip


def test_every_auth_type_has_its_scheme() -> None:
    assert set(SCHEMES) == set(AUTH_TYPES)


@pytest.mark.parametrize("scheme", STATIC)
def test_a_right_credential_passes(make_client: MakeClient, scheme: str) -> None:
    client = make_client(scheme, clock=REAL)
    assert client.get("/me").status_code == 200
    echoed = client.post("/echo?a=%2F b", {"text": "grüße", "n": [1, 2]}, params={"c": "d&e", "f": [1, True, None]})
    assert echoed.status_code == 200


@pytest.mark.parametrize("scheme", [scheme for scheme in STATIC if scheme != "none"])
def test_a_wrong_credential_fails(make_client: MakeClient, sandbox: Sandbox, scheme: str) -> None:
    right = make_client(scheme).target.credentials
    for name in right:
        client = make_client(scheme, credentials={**right, name: right[name] + "x"}, clock=REAL)
        with pytest.raises(UpstreamUnauthorized) as caught:
            client.get("/me")
        assert caught.value.upstream_status == 401
        assert caught.value.attempts == 1


@pytest.mark.parametrize("scheme", [scheme for scheme in STATIC if scheme != "none"])
def test_a_missing_credential_is_named(make_client: MakeClient, scheme: str) -> None:
    right = make_client(scheme).target.credentials
    for name in set(right) - {"session_token"}:  # long-lived keys of AWS have none
        with pytest.raises(MissingCredential, match=rf"^acme/default has no {name}\.$"):
            make_client(scheme, credentials={other: right[other] for other in right if other != name})


def signed(config: dict[str, Any], credentials: dict[str, str], body: bytes | None = None) -> Outgoing:
    target = make_target({"base_url": "https://api.test/v1", **config}, credentials)
    request = Outgoing("POST", Origin("https", "api.test", 443), "/v1/pay?x=1", body=body)
    make_scheme(target).sign(request, 1_700_000_000.9)
    return request


def headers(config: dict[str, Any], credentials: dict[str, str]) -> dict[str, str]:
    return signed(config, credentials).headers.as_dict()


def test_the_connections_credential_wins_over_the_providers_key() -> None:
    config = {"auth_type": "bearer", "api_key": {"key": "provider-key"}}
    assert headers(config, {}) == {"Authorization": "Bearer provider-key"}
    assert headers(config, {"access_token": "own"}) == {"Authorization": "Bearer own"}
    assert headers(config, {"api_key": "own"}) == {"Authorization": "Bearer own"}


def test_twilios_key_is_base64_encoded_for_basic() -> None:
    """Seed 000's Twilio: ``account_sid:auth_token`` stands in the provider's key."""
    config = {
        "auth_type": "basic",
        "api_key": {"key": "AC123:tök", "header_name": "Authorization", "key_prefix": "Basic "},
    }
    assert headers(config, {}) == {"Authorization": f"Basic {base64.b64encode('AC123:tök'.encode()).decode()}"}
    assert headers(config, {"api_key": "only-a-key"}) == {"Authorization": "Basic b25seS1hLWtleTo="}


def test_seed_004s_signature_to_the_letter() -> None:
    """Method, path with query, whole seconds and body, joined by newlines; HMAC-SHA256 in hex.

    The expected value is OpenSSL's: ``printf … | openssl dgst -sha256 -hmac s3cret``.
    """
    request = signed({"auth_type": "hmac"}, {"hmac_secret": "s3cret"}, b'{"data":"example"}')
    assert request.headers.as_dict() == {
        "X-Timestamp": "1700000000",
        "X-Signature": "aeb0b85158a88c3ea24ec41a88af9e9f1ac8ddf3f11ae8d108dc5edd82e6da56",
    }


def test_every_part_of_the_signature_can_be_configured() -> None:
    block = {
        "secret": "s3cret", "algorithm": "sha512", "encoding": "base64", "signature_header": "Sig",
        "signature_prefix": "v1=", "timestamp_header": "Ts", "template": "{timestamp}.{body}",
    }  # fmt: skip
    sent = signed({"auth_type": "hmac", "hmac": block}, {}, b"{}").headers.as_dict()
    signature = "+WWrmjokj66oHk3DGiTWOdaXdJTfAnERhNXnH2nwpVNveGoeWT0jcKTDLix00Uh6qrf+VKRZZucaH2/E6f20mw=="
    assert sent == {"Ts": "1700000000", "Sig": f"v1={signature}"}


AWS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_awss_published_signatures(query: str, signature: str) -> None:
    """docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, at 2013-05-24T00:00:00Z."""
    config = {"base_url": "https://examplebucket.s3.amazonaws.com", "auth_type": "aws_sigv4"}
    scheme = make_scheme(make_target({**config, "aws_sigv4": {"region": "us-east-1", "service": "s3"}}, AWS))
    request = Outgoing("GET", Origin("https", "examplebucket.s3.amazonaws.com", 443), f"/?{query}")
    scheme.sign(request, 1_369_353_600.9)
    assert request.headers.get("Authorization") == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"
    )


def test_awss_region_may_be_a_url_variable() -> None:
    config = {
        "base_url": "https://email.{region}.amazonaws.com",
        "auth_type": "aws_sigv4",
        "aws_sigv4": {"region": "{region}", "service": "ses"},
        "url_variables": {"region": {"default": "eu-west-1"}},
    }
    assert "/20231114/eu-west-1/ses/aws4_request" in headers(config, AWS)["Authorization"]


def test_milliseconds_may_be_signed() -> None:
    sent = headers({"auth_type": "hmac", "hmac": {"timestamp_unit": "milliseconds"}}, {"hmac_secret": "s"})
    assert sent["X-Timestamp"] == "1700000000900"


def test_a_key_may_stand_beside_a_signature() -> None:
    config = {
        "auth_type": "hmac",
        "also": {"headers": {"X-Key": "{api_key}", "X-Pair": "{api_key}:{team}"}, "keys": {"team": "provider-team"}},
    }
    sent = headers(config, {"hmac_secret": "s", "api_key": "k"})
    assert (sent["X-Key"], sent["X-Pair"]) == ("k", "k:provider-team")
    assert "X-Signature" in sent
    with pytest.raises(MissingCredential, match="has no api_key"):
        headers(config, {"hmac_secret": "s"})


@pytest.mark.parametrize("slug", catalogue.presets())
def test_every_credential_of_every_preset_counts(slug: str) -> None:
    """A preset's request changes with each credential that it needs: none is asked for and then not sent."""
    preset = dict(catalogue.presets()[slug].api_config)
    if preset["auth_type"] == "oauth1":
        preset["oauth1"] = {**preset["oauth1"], "consumer_key": "ck", "consumer_secret": "cs"}
    needed = {
        "basic": {"username", "password"},
        "bearer": {"access_token"},
        "client_credentials": {"access_token"},
        "oauth2": {"access_token"},
    }.get(preset["auth_type"], parse(preset).own_credentials())
    also = parse(preset).also
    right = {name: f"right-{name}" for name in {*needed, *(also.names() if also else ())}}
    variables = dict.fromkeys(("domain", "instance", "shop", "subdomain"), "acme")
    variables |= {"region": "eu-west-1", "account_sid": f"AC{0:032}"}

    def sent(credentials: dict[str, str]) -> str:
        target = replace(make_target(preset, credentials), provider_data=variables)
        request = Outgoing("GET", Origin("https", "api.test", 443), "/v1/pay?x=1")
        make_scheme(target).sign(request, 1_700_000_000.9)
        return f"{request.target} {request.headers.as_dict()}"

    for name in right:
        assert sent(right) != sent({**right, name: "wrong"}), name


def test_an_oauth1_nonce_is_never_sent_twice() -> None:
    block = {
        "consumer_key": "ck", "consumer_secret": "cs", "request_token_url": "https://api.test/r",
        "authorization_url": "https://api.test/a", "access_token_url": "https://api.test/t",
    }  # fmt: skip
    config = {"base_url": "https://api.test/v1", "auth_type": "oauth1", "oauth1": block}
    scheme = make_scheme(make_target(config, {"oauth_token": "t", "oauth_token_secret": "ts"}))
    sent = set()
    for _ in range(20):
        request = Outgoing("GET", Origin("https", "api.test", 443), "/v1/x")
        scheme.sign(request, time.time())
        sent.add(request.headers.get("Authorization"))
    assert len(sent) == 20


def test_an_oauth1_form_is_signed_with_its_fields(make_client: MakeClient) -> None:
    client = make_client("oauth1", clock=REAL, request_encoding="form")
    assert client.post("/echo", {"status": "hello world & more", "a": {"b": ["ü"]}}).status_code == 200


@pytest.mark.parametrize("secret", ["abc\n", "abc\r\nX-Evil: 1", "ключ", "a\0b"])
def test_a_secret_that_a_header_cannot_carry_is_refused_without_quoting_it(secret: str) -> None:
    with pytest.raises(MissingCredential, match="access_token of acme/default holds characters") as caught:
        headers({"auth_type": "bearer"}, {"access_token": secret})
    assert secret not in str(caught.value)


def test_a_scheme_signs_for_users_of_requests(make_client: MakeClient, sandbox: Sandbox) -> None:
    for name in ("bearer", "api-key-query", "hmac", "oauth1"):
        auth = RequestsAuth(make_scheme(make_client(name).target), time.time)
        response = GuardedSession().post(f"{sandbox.url}/auth/{name}/echo?a=b", auth=auth, json={"a": 1})
        assert response.status_code == 200, response.text
    assert requests.Request("GET", "https://a.test").prepare()  # the real library, not a double


def test_what_holds_secrets_is_neither_shown_nor_pickled(make_client: MakeClient) -> None:
    client: ApiClient = make_client("bearer")
    for thing in (client, client.target, client._scheme, client.target.credentials):
        assert known.BEARER_TOKEN not in repr(thing)
        with pytest.raises(TypeError):
            pickle.dumps(thing)
