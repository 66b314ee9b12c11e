"""OAuth 1.0a's three legs, and the calls that are signed with what they give."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from connections import services
from connections.models import ExternalApiConnection, OAuthFlow
from external_apis.errors import MissingCredential
from external_apis.providers import update_external_api
from tests.authority import Authority, authorize, come_back, connect, consent, query_of
from tests.factories import make_connection
from tests.grants import secrets_of
from tests.rest import PROVIDERS, RestClient, error_of
from tests.sockets import answering, serve

pytestmark = pytest.mark.django_db(transaction=True)


@cache
def rsa_pair() -> tuple[str, dict[str, str]]:
    """A private key in PEM, and its public part as a JWK."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return pem, {name: public[name] for name in ("n", "e")}


def rsa_provider(authority: Authority) -> Any:
    pem, public = rsa_pair()
    return authority.oauth1(client={"rsa_key": public}, signature_method="RSA-SHA1", consumer_private_key=pem)


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256", "RSA-SHA1"])
def test_three_legs_make_a_connection_whose_calls_are_signed(
    authority: Authority, staff: RestClient, method: str
) -> None:
    is_rsa = method == "RSA-SHA1"
    api = rsa_provider(authority) if is_rsa else authority.oauth1(signature_method=method)
    update_external_api(api, {"api_config": {"request_encoding": "form"}})
    row = connect(staff, api)
    assert set(secrets_of(row)) == {"oauth_token", "oauth_token_secret"}
    client = services.get_api_client(f"{api.slug}/{row.slug}")
    assert client.get("/me", params={"a": "b c", "ä": "&="}).status_code == 200
    assert client.post("/echo", data={"status": "hello & goodbye", "x": "ü"}).status_code == 200


def test_the_request_tokens_secret_is_sealed_and_then_forgotten(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth1()
    url = authorize(staff, api)
    flow = OAuthFlow.objects.get(external_api=api)
    assert (flow.kind, set(flow.secrets)) == ("oauth1", {"kept", "token_secret"})
    assert set(query_of(url)) == {"oauth_token"}
    come_back(staff, consent(url))
    flow.refresh_from_db()
    assert dict(flow.secrets) == {}


def test_refusals(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth1()
    location = consent(authorize(staff, api))
    assert come_back(RestClient(), location).status_code == 400  # another browser
    verifier = parse_qs(urlsplit(location).query)["oauth_verifier"][0]
    foreign = location.replace(query_of(location)["oauth_token"], "another-token")
    assert "not known" in come_back(staff, foreign).content.decode()
    assert come_back(staff, location).status_code == 200
    assert "finished before" in come_back(staff, location).content.decode()
    without = consent(authorize(staff, api)).replace("oauth_verifier", "verifier")
    assert "no verifier" in come_back(staff, without).content.decode()
    wrong = consent(authorize(staff, api))
    wrong = wrong.replace(query_of(wrong)["oauth_verifier"], verifier)
    answer = come_back(staff, wrong)
    assert answer.status_code == 502
    assert ExternalApiConnection.objects.filter(external_api=api).count() == 1


def test_a_user_who_refuses(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth1()
    url = authorize(staff, api)
    token = query_of(url)["oauth_token"]
    for query in (f"denied={token}",):
        answer = staff.get(f"{PROVIDERS}/{api.pk}/oauth/callback?{query}")
        assert answer.status_code == 400
        assert "The provider refused" in answer.content.decode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"oauth_token=t&oauth_token_secret=s", "1.0a"),
        (b"oauth_token=t&oauth_token_secret=s&oauth_callback_confirmed=false", "1.0a"),
        (b"oauth_token=&oauth_token_secret=s&oauth_callback_confirmed=true", "status 200"),
        (b"oauth_token=a%00b&oauth_token_secret=s&oauth_callback_confirmed=true", "no token"),
        (b"<html>oops</html>", "status 200"),
        (b"\xff\xfe", "status 200"),
    ],
)
def test_request_tokens_that_are_none(authority: Authority, staff: RestClient, body: bytes, words: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serve(answering(head + body)) as port:
        api = authority.oauth1(request_token_url=f"http://127.0.0.1:{port}/request_token")
        answer = staff.get(f"{PROVIDERS}/{api.pk}/oauth/authorize")
    assert error_of(answer)[0] in (400, 502)
    assert words in answer.json()["error"]["message"]
    assert not OAuthFlow.objects.exists()


def test_a_key_that_is_none_says_so(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth1(signature_method="RSA-SHA1", consumer_private_key="no key at all")
    answer = staff.get(f"{PROVIDERS}/{api.pk}/oauth/authorize")
    assert error_of(answer) == (409, "MISSING_CREDENTIAL")
    assert "no key at all" not in answer.content.decode()
    row = make_connection(api, credentials={"oauth_token": "t", "oauth_token_secret": "s"})
    with pytest.raises(MissingCredential, match="no RSA key"):
        services.get_api_client(row.pk).get("/me")
