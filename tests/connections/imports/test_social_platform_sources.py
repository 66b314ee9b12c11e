"""Hostile and broken sources of the old tables: files and databases."""

from __future__ import annotations

import csv
import json
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command

from connections.imports.database_urls import without_password
from connections.imports.django_oauth.old_database import Address, open_session
from connections.imports.social_platforms import row_batches
from connections.imports.social_platforms.failure_report import FailureReport
from connections.imports.social_platforms.old_database import OldDatabase
from connections.imports.social_platforms.row_streams import rows_of
from connections.imports.social_platforms.sources import Read
from connections.models import ExternalApiConnection, ImportRun
from external_apis.errors import InvalidInput, ServiceUnavailable


def read(path: Path, text: str | bytes) -> list[tuple[dict[str, Any], str]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(rows_of(path))


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": "a"}, {"id": "b"}]',
        '\ufeff[{"id":"a"},\n{"id":"b"}]\n',
        '{"id": "a"}\n{"id": "b"}\n',
        '{"id": "a"}{"id": "b"}',
        '{"social_platforms": [{"id": "a"}, {"id": "b"}], "count": 2}',
        '{"count": 2, "offset": 0, "limit": 20, "social_platform_accounts": [{"id": "a"}, {"id": "b"}]}',
        "id,name\na,\nb,\n",
        "\ufeffid,name\r\na,\r\n\r\nb,\r\n",
    ],
)
def test_rows_of_every_shape(tmp_path: Path, text: str) -> None:
    assert [row["id"] for row, problem in read(tmp_path / "rows", text) if not problem] == ["a", "b"]


def test_a_row_may_be_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    rows = [{"id": str(number), "metadata": {"text": "ü" * 400_000}} for number in range(3)]
    assert [row for row, _ in read(tmp_path / "rows.json", json.dumps(rows, ensure_ascii=False))] == rows


def test_a_broken_line_is_one_row(tmp_path: Path) -> None:
    found = read(tmp_path / "rows.jsonl", '{"id": "a"}\n{"id": "b", nonsense}\n[1]\n{"id": "c"}')
    assert [(row.get("id"), problem) for row, problem in found] == [
        ("a", ""),
        (None, "the row is no JSON"),
        (None, "the row is no object"),
        ("c", ""),
    ]


def test_a_row_too_deep_to_be_read_is_one_row(tmp_path: Path) -> None:
    deep = f'{{"id": "b", "x": {"[" * 50_000}"]}}"{"]" * 50_000}}}'
    found = read(tmp_path / "rows.json", f'[{{"id": "a"}}, {deep}, {{"id": "c"}}]')
    assert [(row.get("id"), problem) for row, problem in found] == [
        ("a", ""),
        (None, "the row is nested too deep"),
        ("c", ""),
    ]


def test_a_report_that_was_cut_off_goes_on_in_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text('{"table": "t", "id": "a"}\n{"table": "t", "id": "b", "rea')
    with FailureReport(path) as report:
        for row_id in ("a", "b"):
            report.add("t", row_id, "reason", "message")
    assert [json.loads(line)["id"] for n, line in enumerate(path.read_text().splitlines()) if n != 1] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": "a"}, {"id": oops}, {"id": "c"}]', "row 2 is no JSON"),
        ('[{"id": "a"}, {"id": "b"', "row 2 is no JSON"),
        ('[{"id": "a"},', "ends in the middle, after 1 rows"),
        (b'[{"id": "\xff"}]', "is not UTF-8"),
        ("", "is neither JSON nor CSV"),
        ("\0\0\0", "is neither JSON nor CSV"),
        ("name\nx\n", "is neither JSON nor CSV"),
        ('id,name\na,"open\n', "is no CSV beyond line"),
        ("[" * 100_000, "row 1 is no JSON"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(tmp_path / "rows", text)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InvalidInput, match="there is no such file"):
            list(rows_of(path))


def test_a_line_of_csv_with_too_few_values_is_one_row(tmp_path: Path) -> None:
    found = read(tmp_path / "rows.csv", 'id,name,metadata\na,x\nb,y,"{""n"": 1}"\n')
    assert found == [({}, "line 2 has 2 values for 3 columns"), ({"id": "b", "name": "y", "metadata": {"n": 1}}, "")]
    assert csv.field_size_limit() == 131_072  # as it was before


# --- databases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("", "mysql://root:hunter22@x/y", "postgresql://u:hunter22%ZZ@h/d", "host=x password=hunter22", "hunter22\0"),
        *("postgresql://u:p@hunter22@h/d", "postgresql://u:p/hunter22@h/d", "postgresql://u:12/hunter22@h/d"),
        *("postgresql://u:p@x/hunter22@h/d", "postgresql://u:p@x:1/hunter22/y@h/d", "postgresql://u:p@@hunter22@h:1/d"),
        *("postgresql://hunter22/p@h/d", "postgresql://u:1@hunter22/@h/d"),
    ],
)
def test_what_is_no_database_url_is_not_repeated(url: str) -> None:
    for reading in (OldDatabase, Address.parse):
        with pytest.raises(InvalidInput) as refusal:
            reading(url)
        assert "hunter22" not in refusal.value.message


def test_urls_that_are_good() -> None:
    for url in ("postgresql:///d?host=/run/x", "postgres://u:a%40b%2F@h1:1,h2:2/d", "postgresql://u@[::1]:5/d"):
        assert OldDatabase(url).description.startswith("postgresql://")


def test_a_host_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def connect(**parameters: Any) -> Any:
        given.append(parameters)
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(psycopg, "connect", connect)
    url = "postgresql://u@h/d?keepalives_idle=60"
    with pytest.raises(InvalidInput, match="away"):
        OldDatabase(url).check()
    with pytest.raises(ServiceUnavailable, match="away"), open_session(Address.parse(url)):
        pass
    for parameters in given:
        asked = {name: str(value) for name, value in parameters.items()}
        assert (asked["keepalives"], asked["keepalives_count"], asked["tcp_user_timeout"]) == ("1", "3", "30000")
        assert asked["keepalives_idle"] == "60"  # who writes it into the URL knows better


def test_a_password_of_one_letter_leaves_a_message_legible() -> None:
    said = without_password("password authentication failed for user a", "a")
    assert said == "password authentication failed for user ••••"
    assert without_password("xhunter22x", "hunter22") == "x••••x"


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    source = OldDatabase("postgresql://u:hunter22@127.0.0.1:1/shop")
    with pytest.raises(InvalidInput, match=r"postgresql://127\.0\.0\.1:1/shop cannot be reached") as refusal:
        list(source.platforms())
    assert "hunter22" not in refusal.value.message + repr(source) + source.description


@pytest.mark.parametrize("command", ["import_social_platforms", "import_django_oauth"])
@pytest.mark.django_db
def test_the_url_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    url = "postgresql://u:hunter22@127.0.0.1:1/shop"
    (tmp_path / "url").write_text(f"{url}\n")
    monkeypatch.setattr("sys.stdin", StringIO(f"{url}\n"))
    for given in (f"@{tmp_path / 'url'}", "@-"):
        with pytest.raises(CommandError, match=r"127\.0\.0\.1:1/shop\)? (cannot be reached|fails)") as error:
            call_command(command, "--database-url", given, "--apply", stdout=StringIO(), stderr=StringIO())
        assert "hunter22" not in str(error.value)
    assert not ImportRun.objects.exists()  # nothing is noted of what cannot be reached
    no_text = b"postgresql://u:hunter22\xff@h/d"
    (tmp_path / "no-text").write_bytes(no_text)
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(no_text), encoding="utf-8"))
    for given in (f"@{tmp_path}", f"@{tmp_path / 'no-text'}", "@-"):
        with pytest.raises(CommandError, match="the file cannot be read") as error:
            call_command(command, "--database-url", given, stdout=StringIO())
        assert error.value.returncode == 2


def test_a_batch_is_bounded_in_rows_and_in_size() -> None:
    small = [Read({"id": str(number)}, {}) for number in range(1_100)]
    assert [len(batch) for batch in row_batches.batches(small)] == [500, 500, 100]
    large = [Read({"id": str(number), "metadata": {"text": "x" * 3_000_000}}, {}) for number in range(7)]
    assert [len(batch) for batch in row_batches.batches(large)] == [3, 3, 1]


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--platforms", "p.json"],
        ["--database-url", "postgresql://h/d", "--platforms", "p", "--accounts", "a"],
        ["--platforms", "p", "--accounts", "a", "--map", "nothing"],
        ["--platforms", "p", "--accounts", "a", "--undo", "imp_1", "--apply"],
    ],
)
@pytest.mark.django_db
def test_called_wrongly(options: list[str]) -> None:
    with pytest.raises(CommandError) as error:
        call_command("import_social_platforms", *options, stdout=StringIO())
    assert error.value.returncode == 2


@pytest.mark.django_db
def test_rows_of_nonsense_fail_one_by_one(tmp_path: Path) -> None:
    platforms, accounts, report = tmp_path / "p.json", tmp_path / "a.jsonl", tmp_path / "report"
    platforms.write_text(
        '[{"id": "p", "name": "Facebook"}, {"id": "p", "name": "Facebook"}, {"name": "no id"},'
        ' {"id": "esc", "name": "\\u001b[2J\\nOurs"},'
        ' {"id": "q", "api_config": "text", "name": 7, "status": [], "base_url": "file:///etc/passwd"}]'
    )
    rows: list[Any] = [
        {"id": "good", "platform_id": "p", "access_token": "t"},
        {"id": "good", "platform_id": "p", "access_token": "t"},
        {"id": "nul", "platform_id": "p", "access_token": "t\0"},
        {"id": "surrogate", "platform_id": "p", "access_token": "t", "metadata": {"x": "\ud800"}},
        {"id": "newline", "platform_id": "p", "access_token": "t\r\nX-Evil: 1"},
        {"id": "endless", "platform_id": "p", "access_token": "t", "metadata": {"n": 1e400}},
        {"id": "long", "platform_id": "p", "access_token": "t" * 20_001},
        {"id": "", "platform_id": "p", "access_token": "t"},
        {"id": {"$ne": 1}, "platform_id": "p", "access_token": "t"},
        {"id": "odd", "platform_id": ["p"], "access_token": "t"},
        {"id": "types", "platform_id": "p", "credentials": "text", "metadata": 5, "access_token": "t", "scopes": [1]},
        {"id": "of-q", "platform_id": "q", "access_token": "t-of-q"},
        {"id": "half \ud800 id", "platform_id": "p", "access_token": "t"},
        {"id": "as-text", "platform_id": "p", "credentials": json.dumps({"access_token": "t-in-text"})},
        {"id": "broken-text", "platform_id": "p", "credentials": '{"access_token": '},
    ]
    nested = ['"metadata": ' + '{"a":' * n + "1" + "}" * n for n in (900, 5_000)]
    deep = [f'{{"id": "deep-{n}", "platform_id": "p", {metadata}}}' for n, metadata in enumerate(nested)]
    digits = f'{{"id": "digits", "platform_id": "p", "access_token": "t", "metadata": {{"n": {"9" * 6_000}}}}}'
    accounts.write_text("\n".join([*deep, digits, *map(json.dumps, rows)]))
    out = StringIO()
    with pytest.raises(CommandError):
        call_command(
            "import_social_platforms",
            *("--platforms", str(platforms), "--accounts", str(accounts), "--report", str(report), "--apply", "--json"),
            stdout=out,
        )
    answer = json.loads(out.getvalue())
    assert answer["accounts"] == {"migrated": 4, "recognised": 0, "skipped": 1, "failed": 13}
    assert answer["platforms"] == {"migrated": 3, "recognised": 0, "skipped": 1, "failed": 1}
    assert ExternalApiConnection.objects.count() == 4
    told = {row["id"] for row in map(json.loads, report.read_text().splitlines())}
    assert {"deep-0", "digits", "half \ud800 id", "broken-text", "newline"} <= told
    assert report.stat().st_mode & 0o777 == 0o600
    assert "X-Evil" not in report.read_text()
    assert r"\x1b[2J\nOurs: is unknown to the catalogue" in answer["remarks"]


@pytest.mark.django_db
def test_a_file_that_breaks_off_leaves_a_run_to_go_on_with(tmp_path: Path) -> None:
    platforms, accounts = tmp_path / "p.json", tmp_path / "a.json"
    platforms.write_text('[{"id": "p", "name": "Facebook"}]')
    rows = [{"id": str(number), "platform_id": "p", "access_token": f"t{number}"} for number in range(1_200)]
    whole = json.dumps(rows)
    accounts.write_text(whole[: len(whole) // 2])
    options = ("--platforms", str(platforms), "--accounts", str(accounts), "--apply", "--json")
    with pytest.raises(CommandError, match="is no JSON, and so nothing after it can be read"):
        call_command("import_social_platforms", *options, stdout=StringIO())
    assert ImportRun.objects.get().state == "failed"
    assert ExternalApiConnection.objects.count() == 500
    accounts.write_text(whole)
    out = StringIO()
    call_command("import_social_platforms", *options, stdout=out)
    assert json.loads(out.getvalue())["accounts"]["migrated"] == 700
    assert ImportRun.objects.get().counts["created"] == 1_201
