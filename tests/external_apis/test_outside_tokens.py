"""Tokens of outside issuers, against a real OpenID provider: good ones, forged ones, and its keys as they change."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from external_apis import issuer_keys, outside_tokens
from external_apis.errors import InvalidToken, ServiceUnavailable, TokenExpired
from external_apis.issuer_keys import IssuerKeys
from external_apis.outside_tokens import OutsideToken
from external_apis.trusted_issuers import TrustedIssuer
from tests.oidc_provider import OidcProvider
from tests.sockets import read_head, serve

AUDIENCE = "https://apis.example.com/exsvc"


@pytest.fixture
def issuer(oidc_provider: OidcProvider, settings: Any) -> Iterator[TrustedIssuer]:
    trusted = TrustedIssuer(oidc_provider.issuer, AUDIENCE, "tenant", "scope")
    settings.SERVICE_API_ISSUERS = (TrustedIssuer("https://other.example.com", AUDIENCE, "t", "s"), trusted)
    settings.EGRESS_ALLOW = [oidc_provider.netloc]
    outside_tokens._keys_of.cache_clear()
    yield trusted
    oidc_provider.change_metadata()
    outside_tokens._keys_of.cache_clear()


@pytest.fixture
def claims(issuer: TrustedIssuer) -> dict[str, Any]:
    return {
        "iss": issuer.issuer,
        "aud": AUDIENCE,
        "sub": "service-7",
        "exp": int(time.time()) + 60,
        "tenant": "north",
        "scope": "services:read credentials:read",
    }


def _verify(token: str) -> OutsideToken:
    issuer = outside_tokens.issuer_of(token)
    assert issuer is not None
    return outside_tokens.verify(token, issuer)


def test_a_token_from_the_providers_token_endpoint(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    client = oidc_provider.register(grant="client-credentials", tenant="north")
    verified = _verify(oidc_provider.client_token(client, scope="read write", audience=AUDIENCE))
    assert (verified.issuer, verified.subject, verified.tenant) == (issuer.issuer, client.client_id, "north")
    assert verified.scopes == {"read", "write"}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_each_algorithm(oidc_provider: OidcProvider, claims: dict[str, Any], algorithm: str) -> None:
    verified = _verify(oidc_provider.sign(claims, algorithm=algorithm))
    assert verified == OutsideToken(
        claims["iss"], "service-7", "north", frozenset(("services:read", "credentials:read")), claims
    )


@pytest.mark.parametrize(
    ("scopes", "understood"),
    [
        (["services:read", 5, None], {"services:read"}),
        ("", set()),
        (None, set()),
        (7, set()),
        ({"services:read": True}, set()),
    ],
)
def test_scopes_are_a_list_or_a_text(
    oidc_provider: OidcProvider, claims: dict[str, Any], scopes: Any, understood: set[str]
) -> None:
    verified = _verify(oidc_provider.sign(claims | {"scope": scopes, "tenant": ["north"]}))
    assert verified.scopes == frozenset(understood)
    assert not verified.tenant


_NOW = time.time()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "https://apis.example.com"}, InvalidToken),
        ({"aud": []}, InvalidToken),
        ({"aud": None}, InvalidToken),
        ({"aud": AUDIENCE.upper()}, InvalidToken),
        ({"exp": _NOW - 3600}, TokenExpired),
        ({"exp": None}, InvalidToken),
        ({"exp": "tomorrow"}, InvalidToken),
        ({"exp": [1]}, InvalidToken),
        ({"nbf": _NOW + 3600}, InvalidToken),
        ({"iat": _NOW + 3600}, InvalidToken),
        ({"sub": {"a": 1}}, InvalidToken),
        ({"jti": 7}, InvalidToken),
        ({"sub": "a\ud800"}, InvalidToken),
        ({"sub": "a\0"}, InvalidToken),
        ({"tenant": "north\udfff"}, InvalidToken),
        ({"scope": ["services:read\0"]}, InvalidToken),
        ({"more": {"deep": ["\ud800"]}}, InvalidToken),
        ({"\ud800": 1}, InvalidToken),
    ],
)
def test_wrong_claims(
    oidc_provider: OidcProvider, claims: dict[str, Any], changes: dict[str, Any], error: type[Exception]
) -> None:
    changed = {name: value for name, value in (claims | changes).items() if value is not None}
    with pytest.raises(error) as caught:
        _verify(oidc_provider.sign(changed))
    assert type(caught.value) is error


def test_clocks_may_differ_by_some_seconds(oidc_provider: OidcProvider, claims: dict[str, Any]) -> None:
    now = int(time.time())
    _verify(oidc_provider.sign(claims | {"exp": now - 10, "nbf": now + 10, "iat": now + 10}))


@pytest.mark.parametrize(
    "forge",
    [
        lambda provider, claims: provider.sign(claims, algorithm="none"),
        lambda provider, claims: provider.sign(claims, algorithm="HS256"),
        lambda provider, claims: provider.sign(claims, key="foreign"),
        lambda provider, claims: provider.sign(claims, headers={"crit": ["exp"]}),
        lambda provider, claims: provider.sign(claims, headers={"crit": ["b64"], "b64": True}),
        lambda provider, claims: provider.sign(claims, headers={"kid": "eddsa"}),
        lambda provider, claims: provider.sign(claims, algorithm="ES256", headers={"kid": "../../../dev/null"}),
        lambda provider, claims: provider.sign(claims, algorithm="ES256", headers={"kid": "' OR 1=1"}),
        lambda provider, claims: provider.sign(claims)[:-4] + "AAAA",
        lambda provider, claims: provider.sign(claims).rpartition(".")[0] + ".",
        lambda provider, claims: _with_its_own_key(claims),
        lambda provider, claims: _with_payload_of(provider.sign(claims), provider.sign(claims | {"tenant": "south"})),
    ],
    ids=["none", "confused", "foreign", "crit", "b64", "other kid", "path", "sql", "cut", "unsigned", "jwk", "spliced"],
)
def test_forged_tokens(
    oidc_provider: OidcProvider,
    issuer: TrustedIssuer,
    claims: dict[str, Any],
    forge: Callable[[OidcProvider, dict[str, Any]], str],
) -> None:
    with pytest.raises(InvalidToken):
        outside_tokens.verify(forge(oidc_provider, claims), issuer)


def _with_its_own_key(claims: dict[str, Any]) -> str:
    """The token brings the key along that it is signed with, and says where more of them are."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    headers = {"jwk": public, "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/keys", "kid": "mine"}
    return jwt.encode(claims, key, algorithm="RS256", headers=headers)


def _with_payload_of(one: str, other: str) -> str:
    head, _, signature = one.split(".")
    return ".".join([head, other.split(".")[1], signature])


@pytest.mark.parametrize(
    "token",
    [
        "", "x", "a.b.c", "..", "é.é.é", "eyJhbGciOiJSUzI1NiJ9..x",
        jwt.encode({"iss": "https://unknown.example.com"}, "k" * 32),
        jwt.encode({"sub": "nobody"}, "k" * 32),
        "eyJhbGciOiJSUzI1NiJ9.WzFd.x",
        "eyJhbGciOiJub25lIn0." + "W1tb" * 1500 + ".x",
        "x" * 10_000,
    ],
)  # fmt: skip
def test_what_is_not_from_a_trusted_issuer_is_for_others_to_judge(issuer: TrustedIssuer, token: str) -> None:
    assert outside_tokens.issuer_of(token) is None


def test_an_oversized_token_is_not_read(oidc_provider: OidcProvider, claims: dict[str, Any]) -> None:
    assert outside_tokens.issuer_of(oidc_provider.sign(claims | {"padding": "x" * 7_000})) is None


def test_keys_rotate_without_a_restart(oidc_provider: OidcProvider, claims: dict[str, Any]) -> None:
    clock = _Clock()
    keys = IssuerKeys(oidc_provider.issuer, clock)
    outside_tokens._keys_of.cache_clear()
    before = oidc_provider.sign(claims)
    first = keys.find(_key_id(before), "RS256")
    oidc_provider.rotate_key()
    after = oidc_provider.sign(claims)
    assert _key_id(after) != _key_id(before)
    clock.now += 16
    assert keys.find(_key_id(after), "RS256").key_id == _key_id(after)
    assert keys.find(_key_id(before), "RS256").key_id == first.key_id  # still published
    oidc_provider.rotate_key(keep_old=False)
    clock.now += 601
    with pytest.raises(InvalidToken):
        keys.find(_key_id(before), "RS256")


def test_made_up_key_ids_do_not_make_us_ask_again_and_again(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    clock = _Clock()
    keys = IssuerKeys(oidc_provider.issuer, clock)
    keys.find("es256", "ES256")
    before = oidc_provider.asked("jwks")
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda number: _is_unknown(keys, f"made-up-{number}"), range(100))) == 100
        assert oidc_provider.asked("jwks") == before  # those of a moment ago will do
        clock.now += 16
        assert sum(pool.map(lambda number: _is_unknown(keys, f"made-up-{number}"), range(100))) == 100
    assert oidc_provider.asked("jwks") == before + 1
    assert keys.find("es256", "ES256").algorithm_name == "ES256"


def test_a_key_published_just_now_is_found_soon_and_made_up_ids_stay_bounded(
    oidc_provider: OidcProvider, issuer: TrustedIssuer
) -> None:
    clock = _Clock()
    keys = IssuerKeys(oidc_provider.issuer, clock)
    keys.find("es256", "ES256")
    oidc_provider.rotate_key()
    fresh = _key_id(oidc_provider.sign({"sub": "ann"}))
    assert _is_unknown(keys, fresh)
    clock.now += 2
    assert keys.find(fresh, "RS256").key_id == fresh
    before = oidc_provider.asked("jwks")
    for second in range(600):
        clock.now += 1
        assert _is_unknown(keys, f"made-up-{second}")
    assert oidc_provider.asked("jwks") - before <= 600 / 15 + 4


def test_many_at_once_fetch_once(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    keys, before = IssuerKeys(oidc_provider.issuer), oidc_provider.asked("jwks")
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: keys.find("es256", "ES256"), range(32)))) == 32
    assert oidc_provider.asked("jwks") == before + 1


def test_a_token_without_a_key_id_needs_the_only_key(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    keys = IssuerKeys(oidc_provider.issuer)
    assert keys.find(None, "EdDSA").algorithm_name == "EdDSA"
    oidc_provider.rotate_key()
    with pytest.raises(InvalidToken):
        IssuerKeys(oidc_provider.issuer).find(None, "RS256")  # there are two


def test_an_absent_issuer_is_no_forged_token(oidc_provider: OidcProvider, settings: Any) -> None:
    clock = _Clock()
    settings.EGRESS_ALLOW = [oidc_provider.netloc]
    keys = IssuerKeys(oidc_provider.issuer, clock)
    keys.find("es256", "ES256")
    settings.EGRESS_ALLOW = []  # the guard's refusal stands for every way to be away
    clock.now += 1800
    assert keys.find("es256", "ES256").algorithm_name == "ES256"  # those at hand serve on
    with pytest.raises(ServiceUnavailable):
        keys.find("made-up", "ES256")  # it may be a new one
    clock.now += 1801
    with pytest.raises(ServiceUnavailable):
        keys.find("es256", "ES256")


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://elsewhere.example.com"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 7},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://169.254.169.254/keys"},
        {"jwks_uri": "http://user:secret@127.0.0.1/keys"},
    ],
)
def test_metadata_that_lie(oidc_provider: OidcProvider, issuer: TrustedIssuer, metadata: dict[str, Any]) -> None:
    oidc_provider.change_metadata(**metadata)
    with pytest.raises(ServiceUnavailable):
        IssuerKeys(oidc_provider.issuer).find("es256", "ES256")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"[" * 40_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b" " * 999_999,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    ],
)
def test_answers_that_are_none(settings: Any, answer: bytes) -> None:
    def play(client: Any) -> None:
        read_head(client)
        client.sendall(answer)
        client.close()

    with serve(play) as port:
        settings.EGRESS_ALLOW = [f"127.0.0.1:{port}"]
        with pytest.raises(ServiceUnavailable) as caught:
            IssuerKeys(f"http://127.0.0.1:{port}").find("k", "RS256")
    assert str(caught.value) == f"The signing keys of http://127.0.0.1:{port} cannot be fetched."


def test_a_hanging_issuer_costs_one_wait(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "_TIMEOUT_SECONDS", 0.2)
    asked, released = [], threading.Event()

    def play(client: Any) -> None:
        read_head(client)
        asked.append(1)
        released.wait(5)

    with serve(play) as port:
        settings.EGRESS_ALLOW = [f"127.0.0.1:{port}"]
        keys = IssuerKeys(f"http://127.0.0.1:{port}")
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda _: _is_away(keys), range(16))) == 16
        released.set()
    assert asked == [1]


def _rsa_jwk(size: int = 2048, **members: Any) -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=size).public_key()
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True), "kid": "k", **members}


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "RS256"},
        _rsa_jwk(1024),
        _rsa_jwk(use="enc"),
        _rsa_jwk(alg="PS256"),
        _rsa_jwk(alg="HS256"),
        _rsa_jwk(n="AA"),
        _rsa_jwk(n=7),
        _rsa_jwk(kty=["RSA"]),
        jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048), as_dict=True)
        | {"kid": "k"},
        "k",
        None,
    ],
)
def test_keys_that_verify_nothing(settings: Any, key: Any) -> None:
    with _publishing([key]) as (port, keys):
        settings.EGRESS_ALLOW = [f"127.0.0.1:{port}"]
        with pytest.raises(InvalidToken):
            keys.find("k", "RS256")


def test_of_two_keys_with_one_id_the_first_counts(settings: Any) -> None:
    first, second = _rsa_jwk(), _rsa_jwk()
    with _publishing([first, second]) as (port, keys):
        settings.EGRESS_ALLOW = [f"127.0.0.1:{port}"]
        assert keys.find("k", "RS256").key.public_numbers() == jwt.PyJWK(first, "RS256").key.public_numbers()


class _publishing:  # noqa: N801 (used as a function)
    """An issuer that publishes these keys; yields its port and its keys as we read them."""

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys

    def __enter__(self) -> tuple[int, IssuerKeys]:
        self.server = serve(self.play)
        self.port = self.server.__enter__()
        return self.port, IssuerKeys(f"http://127.0.0.1:{self.port}")

    def __exit__(self, *_: object) -> None:
        self.server.__exit__(None, None, None)

    def play(self, client: Any) -> None:
        address = f"http://127.0.0.1:{self.port}"
        while True:
            is_discovery = b"openid-configuration" in read_head(client)
            document = {"issuer": address, "jwks_uri": f"{address}/keys"} if is_discovery else {"keys": self.keys}
            body = json.dumps(document).encode()
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class _Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _key_id(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def _is_unknown(keys: IssuerKeys, key_id: str) -> bool:
    try:
        keys.find(key_id, "RS256")
    except InvalidToken:
        return True
    return False


def _is_away(keys: IssuerKeys) -> bool:
    try:
        keys.find("k", "RS256")
    except ServiceUnavailable:
        return True
    return False
