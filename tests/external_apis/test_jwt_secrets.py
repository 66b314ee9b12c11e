"""``JWT_SECRET`` as it is read: one secret or a list, none of them short."""

from __future__ import annotations

import pytest

from external_apis.jwt_secrets import derived_kid, parse

SWORDFISH = "swordfish-swordfish-swordfish-00"
OTHER = "another-secret-of-the-tests-that-is-long"


@pytest.mark.parametrize("secret", [SWORDFISH, f"{SWORDFISH},x", f"a b:{SWORDFISH}", "\u20ac" * 11])
def test_one_secret_stands_alone(secret: str) -> None:
    assert parse(secret) == {derived_kid(secret): secret}


def test_the_first_of_a_list_signs() -> None:
    assert list(parse(f"2026:{SWORDFISH} , old:{OTHER}").items()) == [("2026", SWORDFISH), ("old", OTHER)]
    assert parse(f"2026:{SWORDFISH}") == {"2026": SWORDFISH}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SWORDFISH[1:], "secret 1 is shorter than 32 bytes"),
        (f"a:{SWORDFISH},b:{SWORDFISH[1:]}", "secret 2 is shorter than 32 bytes"),
        (f"a:{SWORDFISH},", "entry 2 of the list is none"),
        (f",a:{SWORDFISH}", "entry 1 of the list is none"),
        (f"a:{SWORDFISH},{OTHER}", "entry 2 of the list is none"),
        (f"{OTHER},a:{SWORDFISH}", "entry 1 of the list is none"),
        (f"a:{SWORDFISH},b:", "entry 2 of the list is none"),
        (f"a:{SWORDFISH},b c:{OTHER}", "entry 2 of the list is none"),
        (f"a:{SWORDFISH},a:{OTHER}", "two secrets under one key id"),
    ],
)
def test_what_is_malformed_is_named_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("JWT_SECRET")
    assert "swordfish" not in message
