"""The keyring and the object that holds opened secrets."""

from __future__ import annotations

import base64
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_apis.crypto import Form, Key, Keyring, Sealed, Secrets
from external_apis.errors import UnknownKey, Unreadable

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
RING = Keyring({"k2": NEW, "k1": OLD})


@given(st.binary(max_size=200), st.text(max_size=50))
def test_what_is_sealed_opens_again(plaintext: bytes, identity: str) -> None:
    assert RING.open(RING.seal(plaintext, identity), identity) == plaintext


def test_two_seals_of_one_value_differ_and_hide_it() -> None:
    first, second = RING.seal(b"swordfish", "a"), RING.seal(b"swordfish", "a")
    assert first != second
    assert b"swordfish" not in bytes(first)


def test_the_first_key_writes_and_every_key_reads() -> None:
    old = Keyring({"k1": OLD}).seal(b"x", "a")
    assert RING.open(old, "a") == b"x"
    assert RING.reseal(old, "a").key_id == "k2"


def test_a_value_for_another_place_does_not_open() -> None:
    with pytest.raises(Unreadable, match="moved from another row"):
        RING.open(RING.seal(b"x", "app.model:1:secrets"), "app.model:2:secrets")


def test_every_altered_byte_is_noticed() -> None:
    sealed = RING.seal(b"secret", "a")
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises((Unreadable, UnknownKey)):
            RING.open(bytes(altered), "a")


def test_every_truncation_is_noticed() -> None:
    sealed = RING.seal(b"secret", "a")
    for length in range(len(sealed)):
        with pytest.raises(Unreadable):
            RING.open(sealed[:length], "a")


def test_an_unknown_key_is_named() -> None:
    sealed = Keyring({"k9": OLD}).seal(b"x", "a")
    assert sealed.key_id == "k9"
    with pytest.raises(UnknownKey, match="'k9'"):
        RING.open(sealed, "a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k1",
        "k1:",
        "k1:not base64!",
        "k1:" + base64.b64encode(b"short").decode(),
        "bad id:" + base64.b64encode(OLD).decode(),
        f"k1:{base64.b64encode(OLD).decode()},k1:{base64.b64encode(NEW).decode()}",
    ],
)
def test_malformed_key_lists_are_refused_without_quoting_a_key(text: str) -> None:
    with pytest.raises(ValueError, match="ENCRYPTION_KEYS") as caught:
        Keyring.parse(text)
    for key in (OLD, NEW):
        assert base64.b64encode(key).decode() not in str(caught.value)


def test_url_safe_base64_is_read_too() -> None:
    key = bytes([0xFB, 0xFF] * 16)
    ring = Keyring.parse("k1:" + base64.urlsafe_b64encode(key).decode())
    assert ring.open(Keyring({"k1": key}).seal(b"x", "a"), "a") == b"x"


def test_fingerprints_are_keyed() -> None:
    old, new = (Key("dk", secret, Form.UNDER_DATA_KEY) for secret in (OLD, NEW))
    assert new.fingerprint("a") == new.fingerprint("a") != new.fingerprint("b")
    assert new.fingerprint("a") != old.fingerprint("a")


def test_the_form_is_part_of_what_is_authenticated() -> None:
    """A master key and a data key under one id do not open each other's values, even if they were the same bytes."""
    sealed = Key("k1", OLD, Form.UNDER_DATA_KEY).seal(b"x", "a")
    assert sealed.form == Form.UNDER_DATA_KEY
    with pytest.raises(Unreadable):
        RING.open(bytes([Form.UNDER_MASTER_KEY]) + sealed[1:], "a")


def test_opened_secrets_show_nothing(caplog: pytest.LogCaptureFixture) -> None:
    secrets = Secrets({"api_key": "swordfish"})
    logging.getLogger("test").warning("%s %r %s", secrets, secrets, [secrets])
    assert "swordfish" not in f"{secrets} {secrets!r} {caplog.text}"
    assert "api_key" in repr(secrets)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secrets, protocol)
    for keys in (RING, RING.key("k1")):
        with pytest.raises(TypeError):
            pickle.dumps(keys)
    assert repr(RING.key("k1")) == "<Key k1>"
    assert "swordfish" not in repr(Sealed(RING.seal(b"swordfish", "a")))
