"""Tokens of keys: their shape, their checksum, and what is shown of them."""

from __future__ import annotations

import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from external_apis import key_format


@pytest.mark.parametrize(
    ("type_", "mode", "prefix"),
    [
        ("secret", "live", "sk_live_"),
        ("secret", "test", "sk_test_"),
        ("publishable", "live", "pk_live_"),
        ("publishable", "test", "pk_test_"),
    ],
)
def test_a_token_says_what_it_is_and_carries_256_random_bits(type_: str, mode: str, prefix: str) -> None:
    tokens = {key_format.make_token(type_, mode) for _ in range(200)}
    assert len(tokens) == len({key_format.public_part(token) for token in tokens}) == 200
    for token in tokens:
        assert re.fullmatch(rf"{prefix}[0-9A-Za-z]{{49}}", token)
        assert key_format.is_well_formed(token)
    # Each character of the random part takes many values: none of it is fixed.
    columns = zip(*(token[9:51] for token in tokens), strict=True)
    assert all(len(set(column)) > 20 for column in columns)


def test_the_checksum_is_the_documented_one() -> None:
    """CRC-32 (ISO-HDLC) of what stands before it, in base 62 with digits, capitals, small letters."""
    token = key_format.make_token("secret", "live")
    number = 0
    for character in token[-6:]:
        number = number * 62 + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(character)
    assert number == zlib.crc32(token[:-6].encode())


def test_every_mistyped_character_is_noticed() -> None:
    token = key_format.make_token("secret", "live")
    for position in range(len(token)):
        other = "x" if token[position] != "x" else "y"
        assert not key_format.is_well_formed(token[:position] + other + token[position + 1 :])
        assert not key_format.is_well_formed(token[:position] + token[position + 1 :])
    swapped = token[:20] + token[21] + token[20] + token[22:]
    assert token[20] == token[21] or not key_format.is_well_formed(swapped)


@pytest.mark.parametrize("tail", ["\n", " ", "\0", "٣", "x", "\ud800"])
def test_nothing_may_stand_behind_a_token(tail: str) -> None:
    assert not key_format.is_well_formed(key_format.make_token("secret", "live") + tail)


@given(st.text(max_size=80))
@settings(max_examples=200, derandomize=True)
def test_any_text_at_all_is_refused(text: str) -> None:
    assert not key_format.is_well_formed(text)
    assert not key_format.is_well_formed(f"sk_live_{text}")


def test_the_redacted_form_is_six_characters_stars_and_three() -> None:
    token = key_format.make_token("publishable", "test")
    assert key_format.redact(token) == f"pk_tes***{token[-3:]}"
