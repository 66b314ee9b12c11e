"""Renewed tokens go back to the old rows until --release; the sandbox renews them, and its refresh tokens rotate."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.utils import timezone

from connections.imports.django_oauth import importing, old_row_writing, writing_back
from connections.imports.django_oauth.old_database import open_session
from connections.imports.django_oauth.writing_back import write_back_due
from connections.models import ExternalApiConnection, Grant, ImportRun, OldDatabase, WriteBack
from connections.oauth.sweep import sweep
from connections.services import refresh_token, update_connection
from external_apis.models import AuditEvent
from external_apis.rotation import rotate
from tests.authority import Authority, connect
from tests.connections.imports.old_oauth_tables import OldTables, old_tables
from tests.connections.imports.test_django_oauth import SOON, google, imported, taken
from tests.factories import MANAGER, make_provider, make_user
from tests.grants import grant_of, kinds, oauth2_config, secrets_of
from tests.rest import signed_in
from tests.sandbox import Sandbox
from tests.token_server import TokenServer, token_server

pytestmark = pytest.mark.django_db


@pytest.fixture
def old() -> Iterator[OldTables]:
    with old_tables("old_write_back") as tables:
        yield tables


@pytest.fixture
def authority(sandbox: Sandbox, settings: Any, tmp_path: Any) -> Authority:
    settings.EGRESS_ALLOW, settings.SPOOL_DIR = ["127.0.0.1"], str(tmp_path / "spool")
    return Authority(sandbox)


@pytest.fixture
def server(settings: Any, tmp_path: Any) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW, settings.SPOOL_DIR = ["127.0.0.1"], str(tmp_path / "spool")
    with token_server() as started:
        make_provider(slug="theirs", environment="development", api_config=oauth2_config(started.url))
        make_user("ada", email="ada@example.com")
        yield started


def brought(old: OldTables, *arguments: str) -> ExternalApiConnection:
    answer, code = taken(old, "--provider", "ours=theirs", "--write-back", "--yes", *arguments)
    assert (answer["counts"], code) == ({"created": 1}, 0)
    return ExternalApiConnection.objects.get()


@pytest.mark.django_db(transaction=True)
def test_the_first_renewal_is_ours_and_the_rotated_tokens_stand_in_both_systems(
    authority: Authority, old: OldTables
) -> None:
    api = authority.oauth2(client={"rotates": True})
    staff = make_user("ada", email="ada@example.com", permissions=MANAGER)
    granted = connect(signed_in(staff), api)
    tokens = secrets_of(granted)
    granted.delete()
    ended = int((timezone.now() - timedelta(hours=1)).timestamp())
    data = {**tokens, "expires": 600, "auth_time": ended, "login": "ada", "token_type": "Bearer"}
    number = old.social(old.user("ada"), "ours", "1", data)
    answer, _ = taken(old, "--provider", f"ours={api.slug}", "--write-back", "--yes")
    assert answer["counts"] == {"created": 1}
    row = ExternalApiConnection.objects.get()
    assert sweep().renewed == 1
    assert write_back_due() == 1
    for _ in range(2):
        here, there = secrets_of(row), old.extra_data(number)
        assert {name: there[name] for name in here} == here
        assert here["refresh_token"] != tokens["refresh_token"]
        assert (there["login"], there["token_type"]) == ("ada", "Bearer")
        expires_at = ExternalApiConnection.objects.get().credential.expires_at
        assert expires_at is not None
        assert there["auth_time"] + there["expires"] == pytest.approx(expires_at.timestamp(), abs=2)
        tokens = here
        refresh_token(row.pk)
        assert write_back_due() == 1
    assert write_back_due() == 0
    assert authority.counts(api)["refreshed"] == 3
    assert taken(old, "--provider", f"ours={api.slug}")[0]["counts"] == {"recognised": 1}


def test_rows_of_allauth_are_written_as_it_does(old: OldTables, server: TokenServer) -> None:
    app = old.app("ours", "client", "client-secret-of-the-tests")
    number = old.token(old.user("ada"), "ours", "1", "at", "rt", app=app, expires_at=SOON)
    row = brought(old)
    update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2", "expires_at": None}})
    assert write_back_due() == 1
    there = old.one("SELECT token, token_secret, expires_at FROM socialaccount_socialtoken WHERE id = %s", number)
    assert there == {"token": "at-2", "token_secret": "rt-2", "expires_at": None}
    update_connection(row, {"connection_name": "Another"})
    assert write_back_due() == 0


@pytest.mark.parametrize("kind", ["json", "text"])
@pytest.mark.parametrize("is_twice", [False, True])
def test_each_type_and_spelling_of_extra_data_is_kept(
    old: OldTables, server: TokenServer, kind: str, is_twice: bool
) -> None:
    old.run(f"ALTER TABLE social_auth_usersocialauth ALTER extra_data TYPE {kind}, DROP COLUMN modified")
    data = google(expires_on="1600000000", expires_in="60", expires=1_600_000_000)
    number = old.social(old.user("ada"), "ours", "1", json.dumps(json.dumps(data)) if is_twice else data)
    row = brought(old)
    expires_at = timezone.now() + timedelta(seconds=500)
    update_connection(row, {"credentials": {"access_token": "at-2", "expires_at": expires_at.isoformat()}})
    assert write_back_due() == 1
    there: Any = old.extra_data(number)
    for _ in range(is_twice + (kind == "text")):
        assert isinstance(there, str)
        there = json.loads(there)
    moment = int(expires_at.timestamp())
    assert (there["expires_on"], there["expires"], there["access_token"]) == (moment, moment, "at-2")
    assert there["refresh_token"] == "rt-there-1"
    assert there["expires_in"] == pytest.approx(499, abs=2)


def test_a_row_that_the_old_system_has_changed_is_left_as_it_is(old: OldTables, server: TokenServer) -> None:
    number = old.social(old.user("ada"), "ours", "1", google())
    gone = old.social(old.user("bob"), "ours", "2", google(2))
    make_user("bob", email="bob@example.com")
    taken(old, "--provider", "ours=theirs", "--write-back", "--yes")
    newer = google(access_token="at-changed-there")
    old.run("UPDATE social_auth_usersocialauth SET extra_data = %s WHERE id = %s", json.dumps(newer), number)
    old.run("DELETE FROM social_auth_usersocialauth WHERE id = %s", gone)
    for row in ExternalApiConnection.objects.all():
        update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}})
    assert write_back_due() == 0
    assert old.extra_data(number) == newer
    errors = dict(WriteBack.objects.values_list("number", "error"))
    assert "changed the row" in errors[number]
    assert "gone" in errors[gone]
    assert not WriteBack.objects.exclude(due_at=None).exists()


def test_an_old_database_that_is_away_harms_no_renewal_and_is_tried_again(old: OldTables, server: TokenServer) -> None:
    number = old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    database = OldDatabase.objects.get()
    url = database.secrets["url"]
    database.secrets = {"url": "postgresql://user:hunter2hunter2@127.0.0.1:1/name"}
    database.save()
    update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}})
    assert kinds(row) == []
    assert write_back_due() == 0
    waiting = WriteBack.objects.get()
    assert waiting.due_at is not None
    assert timezone.now() < waiting.due_at < timezone.now() + timedelta(minutes=1)
    assert "127.0.0.1:1/name" in waiting.error
    assert "hunter2" not in waiting.error
    assert write_back_due() == 0
    database.secrets = {"url": url}
    database.save()
    WriteBack.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert write_back_due() == 1
    assert old.extra_data(number)["access_token"] == "at-2"
    assert WriteBack.objects.get().error == ""


def test_no_old_database_is_opened_for_rows_that_cannot_be_written(
    old: OldTables, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    update_connection(row, renewed(2))
    credential = ExternalApiConnection.objects.get(pk=row.pk).credential
    credential.secrets = {"refresh_token": "rt-2"}
    credential.save()
    opened = mock.Mock(wraps=open_session)
    monkeypatch.setattr(writing_back, "open_session", opened)
    assert write_back_due() == 0
    assert opened.mock_calls == []
    left = WriteBack.objects.get()
    assert (left.due_at, left.error) == (None, "The connection has no access token any more.")


def renewed(number: int) -> dict[str, Any]:
    return {"credentials": {"access_token": f"at-{number}", "refresh_token": f"rt-{number}"}}


def test_a_row_that_is_locked_there_waits_alone(old: OldTables, server: TokenServer) -> None:
    make_user("bob", email="bob@example.com")
    numbers = [old.social(old.user(name), "ours", name, google(at)) for at, name in enumerate(("ada", "bob"))]
    taken(old, "--provider", "ours=theirs", "--write-back", "--yes")
    for at, row in enumerate(ExternalApiConnection.objects.order_by("id")):
        update_connection(row, renewed(at))
    for number in numbers:
        old.run("BEGIN")
        old.run("SELECT 1 FROM social_auth_usersocialauth WHERE id = %s FOR UPDATE", number)
        WriteBack.objects.update(due_at=timezone.now() - timedelta(seconds=1), error="")
        started = time.monotonic()
        assert write_back_due() == 1
        assert time.monotonic() - started < 2
        old.run("ROLLBACK")
        waiting = WriteBack.objects.get(number=number)
        assert waiting.due_at is not None
        assert waiting.error
        assert WriteBack.objects.exclude(number=number).get().error == ""


def test_an_old_database_that_answers_nothing_is_left_for_later(
    old: OldTables, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing_back, "_SECONDS_OF_A_DATABASE", 0.2)
    make_user("bob", email="bob@example.com")
    for at, name in enumerate(("ada", "bob")):
        old.social(old.user(name), "ours", name, google(at))
    taken(old, "--provider", "ours=theirs", "--write-back", "--yes")
    for at, row in enumerate(ExternalApiConnection.objects.all()):
        update_connection(row, renewed(at))
    monkeypatch.setattr(writing_back, "_AT_ONCE", 1)
    old.run("BEGIN")
    old.run("LOCK TABLE social_auth_usersocialauth")
    started = time.monotonic()
    assert write_back_due() == 0
    assert time.monotonic() - started < 2
    old.run("ROLLBACK")
    assert WriteBack.objects.filter(due_at__gt=timezone.now() + timedelta(seconds=5)).count() == 2
    assert sorted(WriteBack.objects.values_list("attempts", flat=True)) == [0, 1]
    assert all("within" in error for error in WriteBack.objects.values_list("error", flat=True))


def test_a_database_that_may_not_be_written_is_tried_again_and_named(old: OldTables, server: TokenServer) -> None:
    number = old.social(old.user("ada"), "ours", "1", google())
    replica = old.url_with("-cdefault_transaction_read_only=on")
    arguments = ("--apply", "--provider", "ours=theirs", "--write-back", "--yes")
    assert imported("--database-url", replica, *arguments) == ({}, 1)
    assert not ImportRun.objects.exists()
    row = brought(old)
    database = OldDatabase.objects.get()
    database.secrets = {"url": replica}
    database.save()
    update_connection(row, renewed(2))
    assert write_back_due() == 0
    assert WriteBack.objects.get().due_at is not None
    answer, _ = taken(old, "--provider", "ours=theirs")
    assert answer["counts"] == {"recognised": 1}
    (reason,) = answer["reasons"]
    assert reason["rows"] == [f"social_auth:{number}"]
    assert "write-back" in reason["reason"]


def test_what_we_wrote_ourselves_is_no_conflict_after_a_release(old: OldTables, server: TokenServer) -> None:
    old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    update_connection(row, renewed(2))
    assert write_back_due() == 1
    imported("--release")
    update_connection(row, renewed(3))
    answer, code = taken(old, "--provider", "ours=theirs")
    assert (answer["counts"], code) == ({"recognised": 1}, 0)


def test_a_run_that_is_gone_on_with_writes_all_its_rows_back(
    old: OldTables, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_SIZE", 1)
    make_user("bob", email="bob@example.com")
    for at, name in enumerate(("ada", "bob")):
        old.social(old.user(name), "ours", name, google(at))
    taken(old, "--provider", "ours=theirs")
    run = ImportRun.objects.get()
    ImportRun.objects.update(state="interrupted", position={"table": "social_auth", "after": 1})
    assert taken(old, "--provider", "ours=theirs", "--write-back", "--yes")[0]["run"] == run.pk
    assert WriteBack.objects.count() == 2


def test_ctrl_c_and_ctrl_d_at_the_question_are_a_no(old: OldTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", mock.Mock(isatty=lambda: True))

    def interrupts(question: str) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "in clear"

    monkeypatch.setattr("builtins.input", interrupts)
    with pytest.raises(SystemExit) as ended:
        taken(old, "--write-back")
    assert ended.value.code == 130
    monkeypatch.setattr("builtins.input", mock.Mock(side_effect=EOFError))
    assert taken(old, "--write-back") == ({}, 1)
    assert not ImportRun.objects.exists()


def test_a_crash_between_the_two_commits_is_no_change_by_somebody_else(
    old: OldTables, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}})

    def dies(*arguments: Any) -> None:
        old_row_writing.write(*arguments)
        raise RuntimeError

    monkeypatch.setattr(writing_back, "write", dies)
    with pytest.raises(RuntimeError):
        write_back_due()
    assert old.extra_data(number)["access_token"] == "at-2"
    monkeypatch.undo()
    update_connection(row, {"credentials": {"access_token": "at-3", "refresh_token": "rt-3"}})
    assert write_back_due() == 1
    assert old.extra_data(number)["access_token"] == "at-3"


def test_tokens_that_are_renewed_while_a_row_is_written_follow(
    old: OldTables, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}})

    def slow(*arguments: Any) -> None:
        monkeypatch.undo()
        update_connection(row, {"credentials": {"access_token": "at-3", "refresh_token": "rt-3"}})
        old_row_writing.write(*arguments)

    monkeypatch.setattr(writing_back, "write", slow)
    assert write_back_due() == 2
    assert old.extra_data(number)["access_token"] == "at-3"


def test_release_ends_it_and_forgets_the_url(old: OldTables, server: TokenServer) -> None:
    number = old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    sealed = bytes(OldDatabase.objects.values_list("secrets", flat=True).get())
    assert b"nobody-asks" not in sealed
    update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}})
    answer, code = imported("--release", ImportRun.objects.get().pk)
    assert (answer["counts"], answer["pending"], code) == ({"released": 1}, 1, 0)
    assert not OldDatabase.objects.exists()
    assert not WriteBack.objects.exists()
    assert write_back_due() == 0
    assert old.extra_data(number)["access_token"] == "at-there-1"
    assert imported("--release") == ({}, 1)
    actions = AuditEvent.objects.filter(action__startswith="write_back").values_list("action", flat=True)
    assert sorted(actions) == ["write_back.begun", "write_back.released"]


def test_a_later_run_can_begin_it_and_brings_what_was_renewed_until_then(old: OldTables, server: TokenServer) -> None:
    number = old.social(old.user("ada"), "ours", "1", google())
    assert taken(old, "--provider", "ours=theirs")[0]["counts"] == {"created": 1}
    update_connection(
        ExternalApiConnection.objects.get(), {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}}
    )
    assert write_back_due() == 0
    assert taken(old, "--write-back", "--yes")[0]["counts"] == {"recognised": 1}
    assert write_back_due() == 1
    assert old.extra_data(number)["access_token"] == "at-2"


def test_undo_takes_the_write_back_along(old: OldTables, server: TokenServer) -> None:
    old.social(old.user("ada"), "ours", "1", google())
    brought(old)
    assert imported("--undo", ImportRun.objects.get().pk)[0]["left"] == []
    assert not WriteBack.objects.exists()
    assert not OldDatabase.objects.exists()
    assert AuditEvent.objects.filter(action="write_back.released").count() == 1
    assert not Grant.objects.exists()


def test_a_value_that_the_old_table_cannot_hold_is_told_without_it(old: OldTables, server: TokenServer) -> None:
    old.run("ALTER TABLE socialaccount_socialtoken ALTER token TYPE varchar(20)")
    old.token(old.user("ada"), "ours", "1", "at", "rt", expires_at=SOON)
    row = brought(old)
    update_connection(row, {"credentials": {"access_token": "a-token-that-is-too-long-for-it"}})
    assert write_back_due() == 0
    assert "refuses the row" in WriteBack.objects.get().error
    assert "too-long" not in WriteBack.objects.get().error
    assert grant_of(row).failures == 0


def test_a_release_while_a_row_is_written_harms_no_other(
    old: OldTables, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}})

    def released(*arguments: Any) -> None:
        imported("--release")
        old_row_writing.write(*arguments)

    monkeypatch.setattr(writing_back, "write", released)
    assert write_back_due() == 1
    assert not WriteBack.objects.exists()


def test_the_url_outlives_a_rotation_of_keys(old: OldTables, server: TokenServer) -> None:
    old.social(old.user("ada"), "ours", "1", google())
    row = brought(old)
    rotate()
    update_connection(row, {"credentials": {"access_token": "at-2", "refresh_token": "rt-2"}})
    with time_machine.travel(timezone.now() + timedelta(seconds=2), tick=True):
        assert write_back_due() == 1


def test_it_is_said_loudly_and_wants_a_yes(old: OldTables) -> None:
    err = io.StringIO()
    with pytest.raises(CommandError) as refused:
        call_command("import_django_oauth", "--database-url", old.url, "--apply", "--write-back", stderr=err)
    assert refused.value.returncode == 2
    assert "IN CLEAR" in err.getvalue()
    assert "Whoever reads\nthat database" in err.getvalue()
    assert imported("--database-url", old.url, "--write-back", "--yes") == ({}, 2)
    assert imported("--release", "--apply") == ({}, 2)
    assert not ImportRun.objects.exists()
