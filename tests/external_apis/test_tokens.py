"""JWTs of ours: what they say, what is refused, and how their secrets are rotated."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from external_apis import tokens
from external_apis.errors import InvalidToken, TokenExpired
from external_apis.key_holder import ADMIN, KeyHolder
from external_apis.tokens import decode_jwt, issue_jwt

SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"
OTHER = "another-secret-of-the-tests-that-is-just-as-long-00"
HOLDER = KeyHolder("apk_1", "One", "secret", "test", "ten_1", frozenset({"providers:read", "audit:read"}))


@pytest.fixture(autouse=True)
def _secret(settings: Any) -> None:
    settings.JWT_SECRET = SECRET
    settings.ADMIN_API_KEY = "sk_live_of-the-tests"


def forge(header: dict[str, Any] | None = None, secret: str = SECRET, **claims: Any) -> str:
    """A token like ours, with other claims (None leaves one out) and header."""
    sound = jwt.decode(issue_jwt(HOLDER).token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(issue_jwt(HOLDER).token)["kid"]
    body = {name: value for name, value in {**sound, **claims}.items() if value is not None}
    head = {
        name: value
        for name, value in {"alg": "HS256", "typ": "JWT", "kid": kid, **(header or {})}.items()
        if value is not None
    }
    signed = f"{_part(head)}.{_part(body)}"
    digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(str(head.get("alg")), hashlib.sha256)
    signature = (
        "" if head.get("alg") == "none" else _encode(hmac.new(secret.encode(), signed.encode(), digest).digest())
    )
    return f"{signed}.{signature}"


def _part(value: Any) -> str:
    return _encode(json.dumps(value).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_token_says_whose_it_is() -> None:
    now = timezone.now().replace(microsecond=0)
    with time_machine.travel(now, tick=False):
        issued = issue_jwt(HOLDER)
        claims = decode_jwt(issued.token)
    assert (issued.expires_in, issued.expires_at) == (3600, now + timedelta(hours=1))
    assert claims.pop("jti").startswith("jwt_")
    assert claims == {
        "iss": "external-api-manager",
        "aud": "external-apis",
        "sub": "apk_1",
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + 3600,
        "tenant_id": "ten_1",
        "scopes": ["audit:read", "providers:read"],
        "mode": "test",
    }
    assert issued.token not in repr(issued)


def test_two_tokens_are_two() -> None:
    assert decode_jwt(issue_jwt(HOLDER).token)["jti"] != decode_jwt(issue_jwt(HOLDER).token)["jti"]


def test_forging_as_the_tests_do_it_would_work() -> None:
    assert decode_jwt(forge())["sub"] == "apk_1"
    assert decode_jwt(forge(sub="apk_2"))["sub"] == "apk_2"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: forge({"alg": "none"}), id="alg none"),
        pytest.param(lambda: forge({"alg": "None"}), id="alg None"),
        pytest.param(lambda: forge({"alg": "HS384"}), id="alg HS384"),
        pytest.param(lambda: forge({"alg": "HS512"}), id="alg HS512"),
        pytest.param(lambda: forge({"alg": "RS256"}), id="alg RS256"),
        pytest.param(lambda: forge({"alg": None}), id="no alg"),
        pytest.param(lambda: forge({"alg": 7}), id="alg a number"),
        pytest.param(lambda: forge({"kid": "foreign"}), id="foreign kid"),
        pytest.param(lambda: forge({"kid": None}), id="no kid"),
        pytest.param(lambda: forge({"kid": ["x"]}), id="kid a list"),
        pytest.param(lambda: forge({"kid": "../../dev/null"}), id="kid a path"),
        pytest.param(lambda: forge({"crit": ["exp"]}), id="crit"),
        pytest.param(lambda: forge(secret=OTHER), id="another secret"),
        pytest.param(lambda: forge(secret=""), id="an empty secret"),
        pytest.param(lambda: forge(aud="external-services"), id="wrong aud"),
        pytest.param(lambda: forge(aud=None), id="no aud"),
        pytest.param(lambda: forge(iss="somebody"), id="wrong iss"),
        pytest.param(lambda: forge(iss=None), id="no iss"),
        pytest.param(lambda: forge(exp=None), id="no exp"),
        pytest.param(lambda: forge(exp="soon"), id="exp a word"),
        pytest.param(lambda: forge(exp=1e400), id="exp infinite"),
        pytest.param(lambda: forge(iat=None), id="no iat"),
        pytest.param(lambda: forge(jti=None), id="no jti"),
        pytest.param(lambda: forge(sub=None), id="no sub"),
        pytest.param(lambda: forge(sub=7), id="sub a number"),
        pytest.param(lambda: forge(sub="apk_\ud800"), id="sub with a lone surrogate"),
        pytest.param(lambda: forge(sub="apk_\0"), id="sub with a NUL"),
        pytest.param(lambda: forge(sub="ADMIN_API_KEY", key="\ud800"), id="with a lone surrogate as mark"),
        pytest.param(lambda: forge(tenant_id="\ud800"), id="tenant with a lone surrogate"),
        pytest.param(lambda: forge(nbf=4_000_000_000), id="not yet"),
        pytest.param(lambda: forge(sub="ADMIN_API_KEY"), id="the installation's key without its mark"),
        pytest.param(lambda: forge(sub="ADMIN_API_KEY", key="x"), id="with a wrong mark"),
        pytest.param(lambda: forge(sub="ADMIN_API_KEY", key=["x"]), id="with a list as mark"),
        pytest.param(lambda: forge(sub="ADMIN_API_KEY", key="\u00e9"), id="with a mark beyond ASCII"),
        pytest.param(lambda: issue_jwt(HOLDER).token[:-2] + "AA", id="altered signature"),
        pytest.param(lambda: issue_jwt(HOLDER).token.rpartition(".")[0] + ".", id="no signature"),
        pytest.param(lambda: "..", id="empty parts"),
        pytest.param(lambda: "a.b.c", id="rubbish"),
        pytest.param(lambda: "\xff.\xff.\xff", id="not ASCII"),
        pytest.param(lambda: "\0.\0.\0", id="NUL"),
        pytest.param(lambda: _part([]) + "." + _part([]) + ".x", id="lists"),
        pytest.param(lambda: _encode(b"[" * 6000) + ".e30.x", id="deeply nested"),
        pytest.param(lambda: forge(padding="x" * 10_000), id="huge"),
    ],
)
def test_what_is_refused(token: Any) -> None:
    with pytest.raises(InvalidToken):
        decode_jwt(token())


def test_a_public_key_is_no_secret() -> None:
    """Algorithm confusion: a token signed by a key pair of the attacker's."""
    kid = jwt.get_unverified_header(issue_jwt(HOLDER).token)["kid"]
    claims = jwt.decode(issue_jwt(HOLDER).token, options={"verify_signature": False})
    pair = rsa.generate_private_key(65537, 2048)
    with pytest.raises(InvalidToken):
        decode_jwt(jwt.encode(claims, pair, algorithm="RS256", headers={"kid": kid}))


def test_a_token_expires_to_the_second(settings: Any) -> None:
    settings.ADMIN_API_JWT_TTL = 10
    with time_machine.travel(timezone.now().replace(microsecond=0), tick=False) as clock:
        token = issue_jwt(HOLDER).token
        clock.shift(9)
        assert decode_jwt(token)
        clock.shift(1)
        with pytest.raises(TokenExpired):
            decode_jwt(token)


class TestRotation:
    def test_the_first_secret_signs_and_all_verify(self, settings: Any) -> None:
        alone = issue_jwt(HOLDER).token
        settings.JWT_SECRET = f"2026:{OTHER},old:{SECRET}"
        new = issue_jwt(HOLDER).token
        assert jwt.get_unverified_header(new)["kid"] == "2026"
        assert decode_jwt(alone)
        settings.JWT_SECRET = f"2027:{'x' * 40},2026:{OTHER}"
        assert decode_jwt(new)
        with pytest.raises(InvalidToken):
            decode_jwt(alone)

    def test_a_kid_does_not_lend_its_name_to_another_secret(self, settings: Any) -> None:
        settings.JWT_SECRET = f"1:{SECRET}"
        token = issue_jwt(HOLDER).token
        settings.JWT_SECRET = f"1:{OTHER}"
        with pytest.raises(InvalidToken):
            decode_jwt(token)

    @pytest.mark.parametrize(
        "text", ["one,two-secret-with-a-comma-in-the-middle", "a secret: two, and long enough for it"]
    )
    def test_one_secret_may_hold_commas_and_colons(self, settings: Any, text: str) -> None:
        settings.JWT_SECRET = text
        token = issue_jwt(HOLDER).token
        assert decode_jwt(token)
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(token, text.partition(",")[0], algorithms=["HS256"], audience=tokens.AUDIENCE)

    def test_a_malformed_one_signs_and_verifies_nothing(self, settings: Any) -> None:
        token = issue_jwt(HOLDER).token
        settings.JWT_SECRET = "too-short"
        with pytest.raises(ImproperlyConfigured, match="JWT_SECRET"):
            issue_jwt(HOLDER)
        with pytest.raises(ImproperlyConfigured, match="JWT_SECRET"):
            decode_jwt(token)

    def test_the_secret_is_not_in_the_token(self) -> None:
        header = jwt.get_unverified_header(issue_jwt(HOLDER).token)
        assert header["kid"] not in hashlib.sha256(SECRET.encode()).hexdigest()
        assert SECRET not in str(header)

    def test_without_a_secret_no_token_is_made(self, settings: Any) -> None:
        token = issue_jwt(HOLDER).token
        settings.JWT_SECRET = ""
        with pytest.raises(ImproperlyConfigured):
            issue_jwt(HOLDER)
        with pytest.raises(InvalidToken):
            decode_jwt(token)


def test_a_token_of_the_installations_key_ends_with_that_key(settings: Any) -> None:
    token = issue_jwt(ADMIN).token
    assert decode_jwt(token)["sub"] == "ADMIN_API_KEY"
    assert settings.ADMIN_API_KEY not in str(decode_jwt(token))
    for replaced in ("sk_live_new", ""):
        settings.ADMIN_API_KEY = replaced
        with pytest.raises(InvalidToken):
            decode_jwt(token)
