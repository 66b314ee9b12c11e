"""What an old database may hold: columns of every type, JSON in any of them, bytes that are no text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connections.imports.social_platforms.old_database import OldDatabase
from connections.imports.social_platforms.row_streams import rows_of
from connections.models import ExternalApiConnection, ImportRun
from tests.connections.imports.old_oauth_tables import ascii_tables
from tests.connections.imports.old_tables import ACCOUNTS, PLATFORMS, OldShop, key_file_text, old_shop, sealed
from tests.connections.imports.social_platform_files import failed_rows, run

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop() -> Iterator[OldShop]:
    with old_shop("odd_shop", is_filled=False) as made:
        made.insert(PLATFORMS, [{"id": "p", "name": "Facebook"}])
        yield made


@pytest.fixture
def importing(tmp_path: Path, shop: OldShop) -> Any:
    (tmp_path / "old.env").write_text(key_file_text())
    options = ("--encryption-key-file", tmp_path / "old.env", "--report", tmp_path / "report.jsonl")
    return partial(run, "--database-url", shop.url, *options)


def secrets_by_name() -> dict[str, dict[str, str]]:
    return {row.connection_name: row.credential.secrets for row in ExternalApiConnection.objects.all()}


def test_columns_of_json_say_what_they_say(shop: OldShop, importing: Any) -> None:
    shop.run(
        "ALTER TABLE social_platform_account ADD access_token jsonb, ADD refresh_token json, "
        "ADD access_token_encrypted jsonb, ADD is_active jsonb, ADD tokens jsonb[]"
    )
    rows: dict[str, dict[str, Any]] = {
        "clear": {"access_token": '"tok-1"', "refresh_token": "null"},
        "clear_too": {"access_token": '"tok-2"', "refresh_token": '"null"'},
        "refreshed": {"access_token": '"tok-3"', "refresh_token": '"r-3"', "is_active": '"No"'},
        "sealed": {"access_token_encrypted": json.dumps(json.dumps(sealed("tok-4")))},
        "listed": {"access_token": '"tok-5"', "tokens": ['"tok-6"', "null", json.dumps(sealed("tok-7"))]},
        "no_object": {"access_token_encrypted": '"tok-8"'},
        "deep": {"access_token": "[" * 3_000 + "]" * 3_000},
    }
    common = {"social_platform_id": "p"}
    for name, row in rows.items():
        values = {"id": name, "account_name": name, **common}
        columns, places = ", ".join([*values, *row]), ", ".join(["%s"] * len(values) + [_place(one) for one in row])
        shop.run(f"INSERT INTO {ACCOUNTS} ({columns}) VALUES ({places})", [*values.values(), *row.values()])
    answer = importing("--apply")
    assert {name: row["reason"] for name, row in failed_rows(answer).items()} == {
        "no_object": "with secrets that do not open",
        "deep": "that cannot be read",
    }
    assert secrets_by_name() == {
        "clear": {"access_token": "tok-1"},
        "clear_too": {"access_token": "tok-2"},
        "refreshed": {"access_token": "tok-3", "refresh_token": "r-3"},
        "sealed": {"access_token": "tok-4"},
        "listed": {"access_token": "tok-5", "additional_data": '{"tokens.0": "tok-6", "tokens.2": "tok-7"}'},
    }
    assert ExternalApiConnection.objects.get(connection_name="refreshed").status == "revoked"


def _place(column: str) -> str:
    return "%s::text[]::jsonb[]" if column == "tokens" else f"%s::{'json' if column == 'refresh_token' else 'jsonb'}"


def test_columns_of_any_type_are_kept_as_postgresql_writes_them(shop: OldShop, importing: Any) -> None:
    """None of them keeps a row out, and a dry run finds what the import does."""
    shop.run("CREATE TYPE odd_shop.mood AS ENUM ('sad', 'glad'); CREATE TYPE odd_shop.pair AS (one int, two text)")
    values = {
        "inet[]": ("'{10.0.0.1/8,::1}'", ["10.0.0.1/8", "::1"]),
        "int4range[]": ("'{\"[1,3)\"}'", ["[1,3)"]),
        "int8multirange": ("'{[1,3),[5,9)}'", "{[1,3),[5,9)}"),
        "daterange": ("'[2024-01-01,infinity)'", "[2024-01-01,infinity)"),
        "cidr": ("'10.0.0.0/8'", "10.0.0.0/8"),
        "date[]": ("'{infinity}'", ["infinity"]),
        "uuid[]": ("'{00000000-0000-4000-8000-000000000000}'", ["00000000-0000-4000-8000-000000000000"]),
        "bytea[]": ("ARRAY['\\xff'::bytea]", ["\\xff"]),
        "numeric[]": ("'{{1.50,NaN}}'", [["1.50", "NaN"]]),
        "interval": ("'1 month'", "1 mon"),
        "mood[]": ("'{glad}'", "{glad}"),
        "pair": ("(1, 'x')", "(1,x)"),
        "pair[]": ("ARRAY[(1, 'x')::pair]", '{"(1,x)"}'),
        "text[]": ("'{a,NULL}'", ["a", None]),
        "float8": ("1.5", 1.5),
        "boolean[]": ("'{t}'", [True]),
    }
    for number, (type_name, (value, _)) in enumerate(values.items()):
        shop.run(f"ALTER TABLE {ACCOUNTS} ADD odd_{number} {type_name}")
        shop.run(f"ALTER TABLE {ACCOUNTS} ALTER odd_{number} SET DEFAULT {value}")
    shop.insert(ACCOUNTS, [{"id": "a", "social_platform_id": "p", "credentials": {"access_token": "t"}}])
    counts = {"migrated": 1, "recognised": 0, "skipped": 0, "failed": 0}
    assert importing()["accounts"] == importing("--apply")["accounts"] == counts
    kept = ExternalApiConnection.objects.get().provider_data["imported_from"]["row"]
    found = {name: kept[f"odd_{number}"] for number, name in enumerate(values)}
    assert found == {name: expected for name, (_, expected) in values.items()}


_OF_ANY_BYTES = b"""
CREATE TABLE social_platform (id text PRIMARY KEY, name text, metadata jsonb);
CREATE TABLE social_platform_account (
    id text PRIMARY KEY, platform_id text, name text, access_token text, metadata json,
    "gr\xc3\xb6\xc3\x9fe" int DEFAULT 5
);
CREATE TABLE "posts\xff" (platform_id text);
INSERT INTO social_platform VALUES ('p', 'Facebook'), ('q', E'\\377');
INSERT INTO social_platform_account VALUES
    ('a', 'p', E'Caf\\303\\251', 't-a', '{}'), ('b', 'p', E'J\\377', 't-b', '{}'), ('c', 'p', 'c', 't-c', '{}'),
    ('d', 'p', 'd', 't-d', E'{"a": "\\377"}'), (E'e\\377', 'p', 'e', 't-e', '{}'),
    (E'\\303\\251', 'p', 'f', 't-f', '{}');
"""


def test_bytes_that_are_no_text_are_one_rows_problem(tmp_path: Path) -> None:
    with ascii_tables("old_social_ascii") as old:
        with psycopg.connect(old.url, autocommit=True) as session:
            session.execute(_OF_ANY_BYTES)
        options = ("--database-url", old.url, "--report", tmp_path / "report.jsonl")
        assert run(*options)["accounts"] == {"migrated": 3, "recognised": 0, "skipped": 0, "failed": 3}
        answer = run(*options, "--apply")
        assert answer["platforms"] == {"migrated": 1, "recognised": 0, "skipped": 0, "failed": 1}
        assert answer["accounts"] == {"migrated": 3, "recognised": 0, "skipped": 0, "failed": 3}
        assert failed_rows(answer).keys() == {"q", "b", "d", "e\udcff"}
        assert [row.table for row in OldDatabase(old.url).references()] == ["public.posts\ufffd"]
        rest = list(OldDatabase(old.url).accounts({"id": "c"}))
        assert [(read.row["id"], read.position["id"]) for read in rest if not read.is_past] == [
            ("d", "d"),
            ("e\udcff", "d"),
            ("\u00e9", "\u00e9"),
        ]
        assert [read.is_past for read in OldDatabase(old.url).accounts({"id": "\u00e9"})] == [True] * 6
    assert {row.connection_name for row in ExternalApiConnection.objects.all()} == {"Caf\u00e9", "c", "f"}
    assert ImportRun.objects.get().state == "finished"


def test_what_csv_writes_for_nothing_and_for_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,a,b,c,d\n1,NULL,\\N,"""tok""","""open"\n')
    assert [row for row, _ in rows_of(path)] == [{"id": "1", "a": None, "b": None, "c": "tok", "d": '"open'}]
