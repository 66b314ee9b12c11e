"""Secrets in old rows that are no objects of the old encryption service, are broken, or stand within other JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from connections.imports.social_platforms.encryption_keys import OldKeys
from connections.imports.social_platforms.secret_values import part
from tests.connections.imports.old_tables import BROKEN, KEYS, sealed
from tests.connections.imports.social_platform_files import failed_rows, run, write


def keys() -> OldKeys:
    return OldKeys(KEYS)


_CUT_OFF = json.dumps(dict.fromkeys(("encrypted", "iv", "authTag"), "q83vq83vq83vq83v"))[:-30]
_ELSEWHERE = {"ciphertext": "q83v", "tag": "q83v"}
_IN_PART = {"encrypted": "q83v", "iv": "q83v"}
_NO_TEXT = "[object Object]"


@pytest.mark.parametrize(
    "value",
    [
        *(_CUT_OFF, _NO_TEXT, json.dumps(_IN_PART), _IN_PART, json.dumps(_ELSEWHERE), _ELSEWHERE, [_IN_PART]),
        *("q83v:q83v:q83v", "00ff00ff:00ff:00ff", base64.b64encode(json.dumps(sealed("x")).encode()).decode()),
        *(json.dumps(_CUT_OFF), "in clear", 4711, {"type": "Buffer", "data": [1, 2]}, '{"encrypted": ', "{}", "[1]"),
        json.dumps({"value": sealed("x"), "deep": json.loads("[" * 40 + "]" * 40)}),
    ],
)
def test_what_is_called_encrypted_and_is_not_is_a_problem(value: Any) -> None:
    """The old service wrote nothing but its own objects there: nobody could use such a text as a token."""
    parted = part({"id": "a", "credentials": {"access_token_encrypted": value}}, keys())
    assert list(parted.problems) == ["credentials.access_token"]
    assert (parted.secrets, parted.plain) == ({}, {"id": "a", "credentials": {}})
    beside = part({"access_token_encrypted": value, "access_token": "clear"}, keys())
    assert (beside.secrets, beside.problems) == ({"access_token": "clear"}, {})


@pytest.mark.parametrize(
    "value", [_CUT_OFF, _NO_TEXT, json.dumps(_NO_TEXT), json.dumps(_IN_PART), _IN_PART, _ELSEWHERE]
)
def test_what_was_encrypted_is_no_token_under_whatever_name(value: Any) -> None:
    for row in ({"token": value}, {"credentials": {"token": value}}, {"tokens": [value]}, {"metadata": {"jwt": value}}):
        parted = part({"id": "a", **row}, keys())
        assert (len(parted.problems), parted.secrets) == (1, {})
    for row in ({"token": value, "token_encrypted": sealed("x")}, {"token_encrypted": sealed("x"), "token": value}):
        parted = part(row, keys())
        assert (parted.problems, parted.secrets) == ({}, {"token": "x"})
    assert part({"token": value, "token_encrypted": BROKEN}, keys()).problems.keys() == {"token"}
    harmless = {"id": "a", "metadata": {"photo": value}}
    assert part(harmless, keys()).plain == harmless


def test_a_secret_that_is_json_of_its_own_stays_what_it_is() -> None:
    text = json.dumps({"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----", "encrypted": False})
    assert part({"credentials": {"service_account_key": text}}, keys()).secrets == {
        "credentials.service_account_key": text
    }


@pytest.mark.parametrize("name", ["credentials_encrypted", "credentials", "oauth1_app_credentials", "metadata", "blob"])
def test_what_stands_encrypted_within_other_json_opens(name: str) -> None:
    whole: Any = {
        "pages": [{"access_token": sealed("page-token")}],
        "more": json.dumps({"token": sealed("more-token")}),
    }
    base = name.removesuffix("_encrypted")
    opened = {f"{base}.pages.0.access_token": "page-token", f"{base}.more.token": "more-token"}
    for value in (whole, json.dumps(whole), json.dumps(json.dumps(whole))):
        parted = part({"id": "a", name: value}, keys())
        assert (parted.secrets, parted.problems) == (opened, {})
        assert "authTag" not in json.dumps(parted.plain)
        wrong = part({"id": "a", name: value}, OldKeys())
        assert (wrong.secrets, wrong.problems.keys()) == ({}, opened.keys())


@pytest.mark.parametrize("word", ["NULL", "null", "\\N", "None", "undefined", "(null)", " null "])
def test_a_word_for_nothing_is_no_secret(word: str) -> None:
    names = ("refresh_token", "refresh_token_encrypted", "client_id", "credentials")
    row = {**dict.fromkeys(names, word), "tokens": [word], "token": {"a": word}}
    parted = part(row, keys())
    assert (parted.secrets, parted.problems, json.dumps(word) in json.dumps(parted.plain)) == ({}, {}, False)
    assert part({"token": word, "token_encrypted": BROKEN}, keys()).problems


@pytest.mark.django_db
def test_broken_secrets_keep_their_rows_out(tmp_path: Path) -> None:
    config = {"access_token_encrypted": _CUT_OFF, "webhook": {"secret_encrypted": _NO_TEXT}}
    own = {"id": "own", "name": "Ours", "auth_type": "api_key", "base_url": "https://x.example", "api_config": config}
    app = {**own, "id": "app", "api_config": {"api_key": {"key_encrypted": _CUT_OFF}}}
    rows = {
        "cut-off": {"access_token_encrypted": _CUT_OFF},
        "refreshed": {"access_token": "t", "refresh_token_encrypted": "q83v:q83v:q83v"},
        "nothing": {"access_token": "NULL"},
    }
    accounts = [{"id": name, "platform_id": "p", **row} for name, row in rows.items()]
    answer = run(*write(tmp_path, *accounts, platforms=[{"id": "p", "name": "Facebook"}, own, app]))
    assert (answer["platforms"]["migrated"], answer["accounts"]["migrated"]) == (2, 0)
    assert {row_id: row["reason"] for row_id, row in failed_rows(answer).items()} == {
        "own": "with secrets that do not open",
        "app": "values that cannot be imported",
        "cut-off": "with secrets that do not open",
        "refreshed": "with secrets that do not open",
        "nothing": "without any credential",
    }
    assert any("its api_config.webhook.secret was left out" in remark for remark in answer["remarks"])
    assert "q83v" not in json.dumps(answer) + Path(answer["report"]).read_text()
