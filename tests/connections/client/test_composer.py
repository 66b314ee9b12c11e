"""From arguments to the request on the wire: paths that lead nowhere else, and bodies as providers want them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections.client.composer import Composer
from connections.wire.encoding import encode_body, encode_query
from connections.wire.paths import join_path
from external_apis.api_config import parse
from external_apis.errors import InvalidInput
from tests.connections.client.conftest import MakeClient


def composer(**config: Any) -> Composer:
    base = {"base_url": "https://graph.test/v18.0", "auth_type": "none"}
    return Composer(parse({**base, **config}, environment="production"))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/me", "/v18.0/me"),
        ("me", "/v18.0/me"),
        ("", "/v18.0"),
        ("/", "/v18.0/"),
        ("/a?b=c", "/v18.0/a?b=c"),
        ("/Accounts/AC1/Messages.json", "/v18.0/Accounts/AC1/Messages.json"),
        ("/models/gpt:run", "/v18.0/models/gpt:run"),
        ("/a b/ü", "/v18.0/a%20b/%C3%BC"),
        ("/a%2Fb", "/v18.0/a%2Fb"),
        ("/100%", "/v18.0/100%25"),
        ("/a..b/...", "/v18.0/a..b/..."),
        ("/x?u=https://a.test/../b", "/v18.0/x?u=https://a.test/../b"),
        ("/x?q=a b\"<", "/v18.0/x?q=a%20b%22%3C"),
    ],
)  # fmt: skip
def test_a_path_is_appended_to_the_base_url(path: str, target: str) -> None:
    assert join_path("/v18.0", path) == join_path("/v18.0/", path) == target


@pytest.mark.parametrize(
    "path",
    [
        "http://evil.test/", "HTTPS://evil.test", "//evil.test/x", "/../admin", "/a/../../b", "/a/..", "..",
        "/%2e%2e/a", "/%252e%252e/a", "/a/..%2fb", "/..;/a", "/a\\..\\b", "\\\\evil.test", "/a\r\nX: y", "/a\nb",
        "/a\0b", "/a\tb", "/a\x7f", "/a#b", "ftp://evil.test", "https://user:pw@evil.test/",
    ],
)  # fmt: skip
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid call: path") as caught:
        join_path("/v18.0", path)
    assert "evil" not in str(caught.value)


@given(st.text())
def test_whatever_the_path_the_target_stays_below_the_base(path: str) -> None:
    try:
        target = join_path("/base", path)
    except InvalidInput:
        return
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    assert target.startswith("/base")
    assert ".." not in target.partition("?")[0].split("/")


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        ({"a": {"b": ["c", "d"]}}, "a%5Bb%5D%5B0%5D=c&a%5Bb%5D%5B1%5D=d"),
        ({"items": [{"price": "p_1", "quantity": 2}]}, "items%5B0%5D%5Bprice%5D=p_1&items%5B0%5D%5Bquantity%5D=2"),
        ({"t": True, "f": False, "n": None, "z": 0, "d": Decimal("1.50")}, "t=true&f=false&z=0&d=1.50"),
        ({"a b": "c&d=e ü+"}, "a+b=c%26d%3De+%C3%BC%2B"),
        ({}, ""),
    ],
)
def test_a_form_nests_as_stripe_writes_it(data: Any, encoded: str) -> None:
    assert encode_body(data, "form") == encoded.encode()


def test_the_sandbox_reads_the_form_as_it_was_meant(make_client: MakeClient) -> None:
    client = make_client(request_encoding="form")
    sent = {"amount": 100, "metadata": {"order": "6 735"}, "items": [{"id": "a"}, {"id": "b"}], "off": None}
    echoed = client.post("/echo", sent).json()
    assert echoed["form"] == {
        "amount": "100", "metadata[order]": "6 735", "items[0][id]": "a", "items[1][id]": "b",
    }  # fmt: skip


def test_a_query_repeats_lists_and_nests_objects() -> None:
    assert (
        encode_query({"a": [1, 2], "b": None, "c": True, "created": {"gte": 5}}) == "a=1&a=2&c=true&created%5Bgte%5D=5"
    )
    assert encode_query([("a", "x y"), ("a", "/?")]) == "a=x%20y&a=%2F%3F"


def nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(depth):
        tree = {"a": tree}
    return tree


def circle() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree["a"] = tree
    return tree


@pytest.mark.parametrize("encoding", ["json", "form"])
@pytest.mark.parametrize("data", [{"a": object()}, {"a": b"secret"}, circle(), nested(100_000), {"a": {1, 2}}])
def test_data_that_cannot_be_written_is_refused(data: Any, encoding: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_body(data, encoding)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("data", [float("nan"), float("inf"), "\ud800"])
def test_json_that_is_none_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInput):
        encode_body(data, "json")


def test_a_form_needs_an_object() -> None:
    with pytest.raises(InvalidInput, match="not an object"):
        encode_body(["a"], "form")


def test_data_goes_out_in_the_providers_encoding_and_json_as_json() -> None:
    form = composer(request_encoding="form")
    assert form.compose("post", "/x", data={"a": 1}).body == b"a=1"
    assert form.compose("POST", "/x", json={"a": 1}).body == b'{"a":1}'
    assert composer().compose("POST", "/x", data={"ü": [1]}).body == '{"ü":[1]}'.encode()
    raw = composer().compose("PUT", "/x", data=b"\0\1", headers={"content-type": "image/png"})
    assert (raw.body, raw.headers.get("Content-Type")) == (b"\0\1", "image/png")
    with pytest.raises(InvalidInput, match="both"):
        form.compose("POST", "/x", data={"a": 1}, json={"a": 1})


def test_a_provider_has_headers_for_every_call() -> None:
    stripe = composer(api_version="2024-01-01", api_version_header="Stripe-Version", default_headers={"X-App": "us"})
    sent = stripe.compose("GET", "/x", headers={"x-app": "other"}).headers.as_dict()
    assert sent["Stripe-Version"] == "2024-01-01"
    assert sent["x-app"] == "other"
    assert "X-App" not in sent


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nEvil: b"}, {"X": "a\nb"}, {"X": "a\0"}, {"X": "ключ"}, {"X: y": "a"}, {"": "a"}, {"X\n": "a"},
        {"Host": "evil.test"}, {"content-length": "0"}, {"Transfer-Encoding": "chunked"}, {"Connection": "close"},
    ],
)  # fmt: skip
def test_a_header_that_could_split_the_request_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="headers"):
        composer().compose("GET", "/", headers=headers)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "GET / HTTP/1.1\r\n", ""])
def test_an_unknown_method_is_refused(method: str) -> None:
    with pytest.raises(InvalidInput, match="method"):
        composer().compose(method, "/")


def test_path_variables_are_filled_from_the_connection() -> None:
    config = {
        "base_url": "https://api.test/v1/{area}",
        "auth_type": "none",
        "url_variables": {"area": {}, "account_sid": {"pattern": ".*"}},
    }
    composer = Composer(parse(config), {"area": "eu", "account_sid": "AC 1/2"})
    assert composer.compose("GET", "/Accounts/{account_sid}/x?a={b}").target == "/v1/eu/Accounts/AC%201%2F2/x?a=%7Bb%7D"
    with pytest.raises(InvalidInput, match=r"provider_data\.account_sid"):
        Composer(parse(config), {"area": "eu"}).compose("GET", "/Accounts/{account_sid}")
