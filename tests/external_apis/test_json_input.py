"""JSON from outside."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_apis import json_input
from external_apis.errors import InvalidInput


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": [1e400]}', r"a\.0: is not a finite number"),
        (b"-1e999", r"\(body\): is not a finite number"),
        (b'"\\u0000"', "NUL"),
        (b'{"a": ["\\u0000"]}', r"a\.0: contains a NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": "\\ud800"}', "lone surrogate"),
        (b'"\xff"', "not UTF-8"),
        (b"\xff\xfe{\x00", "not JSON|not UTF-8"),
        (b"[" * 40 + b"]" * 40, "levels deep"),
        (b"[" * 200_000, "levels deep|not JSON"),
        (b"9" * 10_000, "not JSON"),
    ],
)
def test_what_could_not_be_stored_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        json_input.load(body)


def test_what_is_fine_is_read() -> None:
    assert json_input.load(b'{"a": [1, "\xf0\x9f\x94\x91", null, {"b": 1.5}]}') == {"a": [1, "🔑", None, {"b": 1.5}]}


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        json_input.load(body)
