"""Secrets in old rows: the old encryption service's keys and objects, what is neither, and what may be shown."""

from __future__ import annotations

import base64
import json
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from connections.imports.social_platforms.encryption_keys import OldKeys
from connections.imports.social_platforms.old_rows import read_row
from connections.imports.social_platforms.secret_values import part
from connections.imports.social_platforms.telling_names import looks_secret
from external_apis.errors import InvalidInput, UnknownKey, Unreadable
from tests.connections.imports.old_tables import BROKEN, KEYS, key_file_text, sealed
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


def test_what_should_have_been_encrypted_is_hidden_all_the_same() -> None:
    secret = "pl4in-s3cret-1234567"
    parted = part({"id": "a", "access_token_encrypted": secret, "name": f"shop {secret}", "legacy": secret}, keys())
    assert list(parted.problems) == ["access_token"]
    assert secret not in f"{parted.plain} {parted!r}"


@pytest.mark.parametrize("value", [True, 0, 1, "t", "false", 1.0])
def test_that_something_is_encrypted_is_no_secret(value: object) -> None:
    assert not part({"id": "a", "is_encrypted": value}, keys()).problems


@pytest.mark.parametrize(
    "text",
    ['{"tag":"prod","secret":"s3cret-value"}', '[{"iv":"abc","name":"x"}]', '{"protected":"e","ciphertext":"b"}'],
)
def test_json_with_a_tag_is_no_broken_ciphertext(text: str) -> None:
    assert part({"id": "a", "access_token": text}, keys()).secrets == {"access_token": text}


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        key_file_text(),
        "".join(f"{version}:{base64.b64encode(key).decode()}\n" for version, key in KEYS.items()),
        "# both\n" + "\n".join(f"export ENCRYPTION_KEY_V{version}='{key.hex()}'" for version, key in KEYS.items()),
    ],
)
def test_key_files_of_every_shape(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    read_keys = OldKeys.read([path])
    assert [read_keys.open(sealed("geheim", version)) for version in (1, 2)] == ["geheim", "geheim"]
    assert repr(read_keys) == "<OldKeys: 1, 2>"
    with pytest.raises(TypeError):
        pickle.dumps(read_keys)


def test_one_bare_key_is_version_1_and_files_add_up(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.write_text(base64.b64encode(KEYS[1]).decode())
    second.write_text(f"2:{base64.b64encode(KEYS[2]).decode()}")
    assert OldKeys.read([first, second]).open(sealed("x", 2)) == "x"
    second.write_text(f"1:{base64.b64encode(KEYS[2]).decode()}")
    with pytest.raises(InvalidInput, match="another key of version 1 already"):
        OldKeys.read([first, second])


@pytest.mark.parametrize(
    "text", ["", "ENCRYPTION_KEY=c2hvcnQ=", "1:not base64!", "OTHER=x\nMORE=y", b"\xff\xfe", "A" * 1_000_001]
)
def test_files_that_are_no_keys(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidInput) as refusal:
        OldKeys.read([path])
    assert "c2hvcnQ" not in refusal.value.message
    with pytest.raises(InvalidInput, match="no such file"):
        OldKeys.read([tmp_path])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"keyVersion": 3}, UnknownKey),
        ({"keyVersion": True}, Unreadable),
        ({"keyVersion": {"$gt": 0}}, Unreadable),
        ({"authTag": BROKEN["authTag"]}, Unreadable),
        ({"authTag": "AAAA"}, Unreadable),
        ({"iv": ""}, Unreadable),
        ({"iv": None}, Unreadable),
        ({"encrypted": "%%%"}, Unreadable),
        ({"encrypted": "A" * 200_001}, Unreadable),
        ({"encrypted": ["x"]}, Unreadable),
    ],
)
def test_objects_that_do_not_open(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        keys().open({**sealed("text"), **changes})


def test_hexadecimal_objects_and_long_ivs_open() -> None:
    whole = sealed("in hexadecimal")
    as_hex = {name: base64.b64decode(whole[name]).hex() for name in ("encrypted", "iv", "authTag")}
    assert keys().open({**as_hex, "keyVersion": "1"}) == "in hexadecimal"


# --- secrets in rows ------------------------------------------------------------------------------------------------


def test_secrets_are_taken_out_wherever_they_are() -> None:
    row = {
        "id": "a",
        "access_token": "token-in-a-column",
        "token_type": "Bearer",
        "metadata": {
            "pages": [{"access_token_encrypted": sealed("page-secret")}, sealed("bare-secret")],
            "handle": "token-in-a-column",
            "apiKey": "k-1",
            "token_count": 3,
            "proxy": "http://user:pass@proxy.example/",
            "keywords": "wool, silk",
        },
    }
    parted = part(row, keys())
    assert parted.secrets == {
        "access_token": "token-in-a-column",
        "metadata.pages.0.access_token": "page-secret",
        "metadata.pages.1": "bare-secret",
        "metadata.apiKey": "k-1",
        "metadata.proxy": "http://user:pass@proxy.example/",
    }
    assert parted.plain == {
        "id": "a",
        "token_type": "Bearer",
        "metadata": {"pages": [{}, None], "handle": None, "token_count": 3, "keywords": "wool, silk"},
    }


@pytest.mark.parametrize(
    "hidden",
    [
        *({name: "S3cret-value"} for name in ("access_token_linkedin", "password_plain", "token_admin", "tokens")),
        *({name: "S3cret-value"} for name in ("client_secret_id", "access_token_status", "session_id", "token_name")),
        *({name: "S3cret-value"} for name in ("bearer", "jwt", "auth", "Authorization", "pwd", "pin", "apikeys")),
        *({name: "S3cret-value"} for name in ("otp_seed", "x-auth", "privatekeypem", "accessKeyId", "expires_token")),
        *({name: "S3cret-value"} for name in ("token_type", "token_count", "token_url", "session_at")),
        {"tokens": ["S3cret-value"]},
        {"tokens": [{"value": "S3cret-value"}]},
        {"access_tokens": {"a": {"b": "S3cret-value"}}},
        {"token": {"value": "S3cret-value"}},
        {"headers": [{"name": "Authorization", "value": "S3cret-value"}]},
        {"pin": 47114711},
        {"urls": ["https://x.example/?token=S3cret-value"]},
        {"link": "/relative?key=S3cret-value"},
        {"link": "https://x.example/#access_token=S3cret-value"},
        {"link": "see https://user:S3cret-value@x.example"},
        {"link": "https://S3cret-value@x.example/repository"},
        {"link": "https://hooks.slack.com/services/T0/B0/S3cret-value"},
        {"link": "access_token=S3cret-value"},
        {"text": 'before {"refresh_token": "S3cret-value"'},
        {"text": json.dumps({"access_token": "S3cret-value"})},
        {"text": json.dumps(json.dumps([{"page": {"token": "S3cret-value"}}]))},
        {"text": "Authorization: Bearer S3cret-value"},
        {"text": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTM2NyZXQifQ.S3cret-value"},
        {"token": "S3cret-value", "error_message": "the call with S3cret-value failed"},
        {"token": "S3cret value", "error_message": "the call with S3cret%20value failed"},
        {"token": "S3cret-value", "seen": {"S3cret-value": 1}},
    ],
)
def test_what_may_be_a_secret_is_none_to_show(hidden: dict[str, Any]) -> None:
    parted = part({"id": "a", "metadata": hidden}, keys())
    shown = json.dumps(parted.plain)
    assert not any(secret in shown for secret in ("S3cret", "47114711"))
    assert any(secret in json.dumps(parted.secrets) for secret in ("S3cret", "47114711"))


@pytest.mark.parametrize(
    "text",
    [
        "-eyJ" * 50_000,
        " eyJaaaaaaaa" * 20_000,
        "-SG." * 50_000,
        "://" * 50_000,
        "Bearer " * 30_000,
        'a"' * 50_000 + ":",
    ],
)
def test_texts_are_looked_through_in_linear_time(text: str) -> None:
    began = time.process_time()
    looks_secret(text)
    assert time.process_time() - began < 0.5


def test_a_row_of_thousands_of_tokens_is_looked_through() -> None:
    tokens = [f"of-page-{number:06d}" for number in range(5_000)]
    row = {"id": "a", "access_token": "the-own-token", "metadata": {"tokens": tokens, "text": "織" * 300_000}}
    told = {**row, "error_message": "the-own-token failed", "handles": tokens, "by": dict.fromkeys(tokens[:2], 1)}
    began = time.process_time()
    parted = part(told, keys())
    assert time.process_time() - began < 2
    assert parted.plain["error_message"] == "•••• failed"
    assert parted.plain["handles"] == [None] * 5_000
    assert parted.plain["by"] == {"••••": 1, "•••••": 1}


def test_what_is_said_of_secrets_is_shown() -> None:
    row = {
        "id": "a",
        "account_name": "Token & Session Ltd: pins and keys",
        "token_expires_at": "infinity",
        "credentials": {"token_type": "Bearer", "scopes": ["read"], "expires_in": 60, "username": "u", "note": "mine"},
        "metadata": {
            "authorization_url": "https://x.example/oauth/authorize?access_type=offline",
            "token_count": 3,
            "session_at": "2025-01-01T00:00:00Z",
            "has_token": True,
            "json": '{"a": [1, "b"]}',
            "author": "Ann",
            "keywords": "wool: silk",
        },
    }
    parted = part(row, keys())
    assert parted.secrets == {"credentials.note": "mine"}
    row["credentials"].pop("note")  # type: ignore[attr-defined]
    assert parted.plain == row


def test_a_broken_object_beside_the_same_in_clear_is_no_loss() -> None:
    parted = part({"access_token_encrypted": BROKEN, "access_token": "in clear"}, keys())
    assert (parted.secrets, parted.problems) == ({"access_token": "in clear"}, {})


@pytest.mark.parametrize("name", ["access_token_encrypted", "access_token", "blob"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_an_encrypted_object_opens_however_its_column_writes_it(name: str, times: int) -> None:
    """A column of jsonb beyond the known ones comes as text, and one of text may hold the object twice written."""
    value: Any = sealed("the-token")
    for _ in range(times):
        value = json.dumps(value)
    row = read_row("social_platform_account", {"id": "a", name: value, "tokens": [value]}, keys())
    assert row.parted.secrets == {name.removesuffix("_encrypted"): "the-token", "tokens.0": "the-token"}
    assert "authTag" not in json.dumps(row.plain)


def test_what_stands_encrypted_twice_is_not_taken_for_one_in_clear() -> None:
    row = {"token": json.dumps(sealed("the-token")), "token_encrypted": sealed("the-token")}
    assert part(row, keys()).secrets == {"token": "the-token"}


@pytest.mark.parametrize(
    "text", ['{"authTag": ', '"authTag"', '["authTag"]', '{"authTag": 1}', "[" * 50_000 + "authTag"]
)
def test_a_text_that_only_speaks_of_an_encrypted_object_stays_what_it_is(text: str) -> None:
    assert part({"id": "a", "access_token": text}, keys()).secrets == {"access_token": text}
