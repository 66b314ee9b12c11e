"""OAuth 1.0a's three legs at the sandbox, signed by the library that the product signs with."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from requests_oauthlib import OAuth1

from tests.connections.sandbox.conftest import Client

CALLBACK = "https://app.example/oauth1/callback"
_numbers = itertools.count(1)


class Consumer:
    def __init__(self, client: Client) -> None:
        self.client, self.key, self.secret = client, f"consumer-{next(_numbers)}", "a consumer's secret"
        client.sandbox.register(self.key, client_secret=self.secret, redirect_uris=[CALLBACK], consent="approve")
        self.method: dict[str, Any] = {"signature_method": "HMAC-SHA256"}

    def sign(self, token: str | None = None, secret: str | None = None, **more: Any) -> OAuth1:
        return OAuth1(self.key, self.secret, token, secret, **{**self.method, **more})

    def request_token(self, callback: str = CALLBACK, **more: Any) -> requests.Response:
        return self.client.post("/oauth1/request_token", auth=self.sign(callback_uri=callback, **more))

    def authorize(self, token: str) -> dict[str, str]:
        answer = self.client.get(f"/oauth1/authorize?oauth_token={token}")
        return read(urlsplit(answer.headers["Location"]).query)

    def access_token(self, token: str, secret: str, verifier: str) -> requests.Response:
        return self.client.post("/oauth1/access_token", auth=self.sign(token, secret, verifier=verifier))


def read(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


@pytest.fixture
def consumer(client: Client) -> Consumer:
    return Consumer(client)


def walk(consumer: Consumer) -> dict[str, str]:
    temporary = read(consumer.request_token().text)
    assert temporary["oauth_callback_confirmed"] == "true"
    back = consumer.authorize(temporary["oauth_token"])
    assert back["oauth_token"] == temporary["oauth_token"]
    answer = consumer.access_token(temporary["oauth_token"], temporary["oauth_token_secret"], back["oauth_verifier"])
    assert answer.status_code == 200, answer.text
    return read(answer.text)


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256", "RSA-SHA1"])
def test_three_legs_lead_to_a_token_that_opens_the_resource(consumer: Consumer, method: str) -> None:
    consumer.method = {"signature_method": method}
    if method == "RSA-SHA1":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        whole = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        consumer.client.sandbox.register(consumer.key, rsa_key={name: str(whole[name]) for name in ("n", "e")})
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        consumer.method["rsa_key"] = pem.decode()
    tokens = walk(consumer)
    signer = consumer.sign(tokens["oauth_token"], tokens["oauth_token_secret"])
    assert consumer.client.get("/auth/oauth1/me?q=a%20b", auth=signer).status_code == 200
    assert consumer.client.post("/auth/oauth1/echo", data={"form": "x y"}, auth=signer).status_code == 200
    if method != "RSA-SHA1":  # which does not sign with the token's secret
        forged = consumer.sign(tokens["oauth_token"], "another")
        assert consumer.client.get("/auth/oauth1/me", auth=forged).status_code == 401
    consumer.client.sandbox.revoke_grants(consumer.key)
    assert consumer.client.get("/auth/oauth1/me", auth=signer).status_code == 401


@pytest.mark.parametrize("callback", ["https://app.example/other", CALLBACK + "/", CALLBACK.upper(), ""])
def test_callbacks_match_letter_for_letter(consumer: Consumer, callback: str) -> None:
    assert error_of(consumer.request_token(callback)) == "bad_callback"


def test_a_request_token_is_good_once_with_its_verifier_alone(consumer: Consumer) -> None:
    temporary = read(consumer.request_token().text)
    token, secret = temporary["oauth_token"], temporary["oauth_token_secret"]
    assert error_of(consumer.access_token(token, secret, "early")) == "not_authorized"
    verifier = consumer.authorize(token)["oauth_verifier"]
    assert error_of(consumer.access_token(token, secret, "guessed")) == "bad_verifier"
    assert error_of(consumer.access_token(token, "another", verifier)) == "signature_mismatch"
    assert consumer.access_token(token, secret, verifier).status_code == 200
    assert error_of(consumer.access_token(token, secret, verifier)) == "wrong_token"
    assert consumer.client.get(f"/oauth1/authorize?oauth_token={token}").status_code == 400


def test_a_request_token_belongs_to_its_consumer(consumer: Consumer) -> None:
    temporary = read(consumer.request_token().text)
    verifier = consumer.authorize(temporary["oauth_token"])["oauth_verifier"]
    other = Consumer(consumer.client)
    answer = other.access_token(temporary["oauth_token"], temporary["oauth_token_secret"], verifier)
    assert error_of(answer) == "wrong_token"


def test_the_user_says_no(consumer: Consumer) -> None:
    consumer.client.sandbox.register(consumer.key, consent="ask")
    token = read(consumer.request_token().text)["oauth_token"]
    page = consumer.client.get(f"/oauth1/authorize?oauth_token={token}")
    assert "Deny" in page.text
    answer = consumer.client.post("/oauth1/authorize", data={"oauth_token": token, "decision": "deny"})
    assert read(urlsplit(answer.headers["Location"]).query) == {"denied": token}
    assert consumer.client.get(f"/oauth1/authorize?oauth_token={token}").status_code == 400


def test_a_code_to_type_where_there_is_no_callback(consumer: Consumer) -> None:
    token = read(consumer.request_token("oob").text)["oauth_token"]
    assert "<code>" in consumer.client.get(f"/oauth1/authorize?oauth_token={token}").text


def test_a_signature_is_taken_once_and_only_of_the_consumer(consumer: Consumer) -> None:
    request = requests.Request("POST", f"{consumer.client.sandbox.url}/oauth1/request_token")
    request.auth = consumer.sign(callback_uri=CALLBACK)
    prepared = request.prepare()
    assert consumer.client.session.send(prepared).status_code == 200
    assert error_of(consumer.client.session.send(prepared)) == "nonce_used"
    consumer.secret = "wrong"
    assert error_of(consumer.request_token()) == "signature_mismatch"
    consumer.key = "nobody"
    assert error_of(consumer.request_token()) == "wrong_consumer_key"


def error_of(answer: requests.Response) -> str:
    assert answer.status_code == 401, answer.text
    return str(answer.json()["error"]["code"])
