"""The form that takes nothing else, and the echo that takes everything."""

from __future__ import annotations

import hashlib

import pytest

from tests.connections.sandbox.conftest import Client

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_nested_keys(client: Client) -> None:
    body = (
        "amount=2000&metadata[order]=6735&items[1][price]=b&items[0][price]=a&tags[]=x&tags[]=y&odd[7]=z&e=%C3%A9+%26"
    )
    assert client.post("/form", data=body, headers=FORM).json()["form"] == {
        "amount": "2000",
        "metadata": {"order": "6735"},
        "items": [{"price": "a"}, {"price": "b"}],
        "tags": ["x", "y"],
        "odd": {"7": "z"},
        "e": "é &",
    }


@pytest.mark.parametrize(
    "body", ["a=1&a=2", "a=1&a[b]=2", "a[b]=1&a=2", "a[b=1", "[a]=1", "=1", "a" + "[b]" * 11 + "=1", "&a" * 1_001, "é"]
)
def test_contradictions_are_refused(client: Client, body: str) -> None:
    assert client.post("/form", data=body.encode(), headers=FORM).status_code == 400


def test_nothing_but_a_form(client: Client) -> None:
    assert client.post("/form", json={"a": 1}).status_code == 415
    assert client.get("/form").status_code == 405


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_echo_takes_any_method(client: Client, method: str) -> None:
    answer = client(method, "/echo/any/path", data=b"\xff\x00binary").json()
    assert (answer["method"], answer["path"]) == (method, "/echo/any/path")
    assert answer["body_bytes"] == 8
    assert answer["body_sha256"] == hashlib.sha256(b"\xff\x00binary").hexdigest()
    assert answer["json"] is None


@pytest.mark.parametrize("body", [b"[" * 50_000, b"NaN", b"1" * 10_000, b"\xff", b'{"a":' * 900 + b"1" + b"}" * 900])
def test_json_that_cannot_be_repeated_is_no_fault(client: Client, body: bytes) -> None:
    assert client.post("/echo", data=body).status_code == 200


def test_echo_shows_no_credential_even_unchecked(client: Client) -> None:
    headers = {"Authorization": "Bearer abc-secret", "Cookie": "s=abc-secret", "X-Sent": "shown"}
    answer = client.get("/echo?api_key=abc-secret&a=1", headers=headers)
    assert "abc-secret" not in answer.text
    assert answer.json()["headers"]["X-Sent"] == "shown"
    assert answer.json()["headers"]["Authorization"] == "[redacted]"
