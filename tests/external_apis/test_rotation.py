"""Rotation: killed anywhere and resumed, under traffic, and what it refuses to call retired."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections

from external_apis import rotation
from external_apis.backup import key_file
from external_apis.crypto import Form
from external_apis.data_keys import data_keys
from external_apis.errors import RetiredKey
from external_apis.key_registry import register_writing_key, verify_keys
from external_apis.models import DataKey, EncryptionKey, ExternalApi, Tenant
from external_apis.rotation import columns, rotate, take_census
from external_apis.shredding import shred
from tests.factories import make_connection, make_tenant
from tests.vault import age, keys, store, stored, wrapped

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _yesterday(settings: Any, tmp_path: Path) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    settings.BACKUP_KEYS_FILE = str(tmp_path / "backup-keys.json")
    register_writing_key()


def make(count: int, tenant: Tenant | None = None) -> list[ExternalApi]:
    return [
        ExternalApi.objects.create(
            name="x",
            slug=f"{tenant.slug if tenant else 'all'}-{n}",
            provider="x",
            tenant=tenant,
            secrets={"k": f"v{n}"},
        )
        for n in range(count)
    ]


def rotate_keys(*arguments: str) -> str:
    out = io.StringIO()
    call_command("rotate_encryption_keys", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def values() -> dict[str, str]:
    data_keys().forget()
    return {row.slug: row.secrets["k"] for row in ExternalApi.objects.all()}


def today(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = keys(b=2, a=1)
    data_keys().forget()


def test_every_encrypted_field_is_found() -> None:
    assert {str(column) for column in columns()} >= {
        "external_apis.ExternalApi.secrets",
        "connections.ExternalApiCredential.secrets",
    }


def test_the_master_key_is_rotated_and_called_retired(settings: Any) -> None:
    """Values of the first version and data keys come under the new key; the old one can then be taken away."""
    tenant = make_tenant()
    rows = make(3) + make(2, tenant)
    credential = make_connection(tenant=tenant).credential
    age([*rows[:2], rows[4], credential])
    sealed = stored(rows[2])
    before = values_of(rows)
    today(settings)
    output = rotate_keys("--batch-size", "2")
    assert "Encryption key a is retired" in output
    assert stored(rows[2]) == sealed  # under a data key: nothing to do
    settings.ENCRYPTION_KEYS = keys(b=2)
    data_keys().forget()
    verify_keys()
    assert values_of(rows) == before
    assert {sealed.form for sealed in (stored(credential), *map(stored, rows))} == {Form.UNDER_DATA_KEY}
    assert take_census().by_key() == {
        "b": DataKey.objects.count(),
        **{key.pk: expected(key) for key in DataKey.objects.all()},
    }


def values_of(rows: list[ExternalApi]) -> list[str]:
    return [ExternalApi.objects.get(pk=row.pk).secrets["k"] for row in rows]


def expected(key: DataKey) -> int:
    # make_connection made a global provider too, and every provider has a value, if an empty one.
    return ExternalApi.objects.filter(tenant=key.tenant).count() + (1 if key.tenant else 0)


def test_the_check_reports_and_changes_nothing(settings: Any) -> None:
    rows = make(3)
    age(rows[:2])
    today(settings)
    before = [stored(row) for row in rows]
    with pytest.raises(CommandError, match="3 values are not under") as caught:  # two rows and a data key
        rotate_keys("--check")
    assert caught.value.returncode == 1
    assert [stored(row) for row in rows] == before
    rotate_keys()
    assert rotate_keys("--check").splitlines()[-1].endswith("current")


def test_a_key_that_still_seals_a_row_is_not_retired(settings: Any) -> None:
    rows = make(2)
    age(rows)
    store(rows[0], bytes(stored(rows[0]))[:-1] + b"\0")
    today(settings)
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 values are not under"):
        call_command("rotate_encryption_keys", stdout=out, stderr=out)
    assert "retired" not in out.getvalue()
    assert rows[0].pk in out.getvalue()
    assert EncryptionKey.objects.get(pk="a").retired_at is None
    assert stored(rows[1]).form == Form.UNDER_DATA_KEY


def test_a_row_that_somebody_holds_is_not_waited_for_but_not_forgotten(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("external_apis.rotation._PASSES", 2)
    monkeypatch.setattr("external_apis.rotation._PAUSE_SECONDS", 0)
    rows = make(3)
    age(rows)
    today(settings)
    with held(rows[1]), pytest.raises(CommandError, match="1 values are not under"):
        rotate_keys()
    assert "retired" in rotate_keys()
    assert take_census().remaining == 0


class held:  # noqa: N801
    """Another session that has locked a row."""

    def __init__(self, row: ExternalApi) -> None:
        self.own = connection.copy()
        self.row = row

    def __enter__(self) -> None:
        self.own.set_autocommit(False)
        self.own.cursor().execute(
            "SELECT 1 FROM external_apis_externalapi WHERE id = %s FOR NO KEY UPDATE", [self.row.pk]
        )

    def __exit__(self, *_: object) -> None:
        self.own.rollback()
        self.own.close()


def test_new_data_keys_reseal_everything_and_the_old_ones_go_on_reading(settings: Any) -> None:
    rows = make(3) + make(2, make_tenant())
    before, old = values(), {stored(row).key_id for row in rows}
    stale = ExternalApi.objects.get(pk=rows[0].pk)
    rotate_keys("--data-keys")
    assert old.isdisjoint(stored(row).key_id for row in rows)
    stale.save()  # loaded before, written back after
    assert stored(rows[0]).key_id not in old
    assert values() == before
    assert take_census().remaining == 0


def test_a_replacement_that_was_broken_off_is_finished_before_another() -> None:
    make(6)
    next(rotate(2, with_data_keys=True))
    assert take_census().remaining
    rotate_keys("--data-keys")
    assert DataKey.objects.count() == 2
    assert take_census().remaining == 0


def test_a_damaged_row_keeps_only_its_own_tenant_from_new_data_keys() -> None:
    (row,) = make(1, make_tenant("acme"))
    (other,) = make(1, make_tenant("other"))
    store(row, bytes(stored(row))[:-1] + b"\0")
    for _ in range(2):
        before = stored(other).key_id
        out = io.StringIO()
        with pytest.raises(CommandError, match="1 values are not under"):
            call_command("rotate_encryption_keys", "--data-keys", stdout=out, stderr=out)
        assert stored(other).key_id != before
        assert "Skipped: rows of acme are" in out.getvalue()
        assert row.pk in out.getvalue()
        assert "of other" not in out.getvalue()
    assert DataKey.objects.filter(tenant__slug="acme").count() == 2


def test_rows_under_a_destroyed_key_are_told_apart() -> None:
    tenant = make_tenant()
    make(1, tenant)
    shred(tenant)
    assert f"{DataKey.objects.get(tenant=tenant).pk}\t1\tdestroyed" in rotate_keys("--check").splitlines()


def test_a_process_with_the_retired_key_does_not_rotate_back(settings: Any) -> None:
    make(1)
    today(settings)
    rotate_keys()
    settings.ENCRYPTION_KEYS = keys(a=1, b=2)
    data_keys().forget()
    with pytest.raises(CommandError, match="'a', which is retired"):
        rotate_keys()
    with pytest.raises(RetiredKey):
        make(1, make_tenant())


def test_the_backups_keys_follow(settings: Any) -> None:
    make(1)
    key_file.update()
    today(settings)
    rotate_keys()
    (kept,) = key_file.read().values()
    assert kept.wrapped == wrapped(DataKey.objects.get())


@pytest.mark.parametrize("name", ["another.json", ""])
def test_no_key_is_retired_while_the_backups_keys_are_out_of_reach(settings: Any, tmp_path: Path, name: str) -> None:
    make(1)
    key_file.update()
    good, settings.BACKUP_KEYS_FILE = settings.BACKUP_KEYS_FILE, name and str(tmp_path / name)
    today(settings)
    with pytest.raises(CommandError, match="BACKUP_KEYS_FILE"):
        rotate_keys()
    assert EncryptionKey.objects.get(pk="a").retired_at is None
    settings.BACKUP_KEYS_FILE = good
    assert "Encryption key a is retired" in rotate_keys()


# --- killed -------------------------------------------------------------------------------------------------------


def in_a_child(act: Callable[[], None]) -> int:
    """Run in a forked process with a database connection of its own; return how it ended, as `os.waitpid` tells."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def killed_at(point: int) -> Callable[[], None]:
    """A rotation that is killed by SIGKILL when it sends (odd) or has sent (even) its ``point // 2``-th statement."""
    sent = iter(range(10_000))

    def watch(execute: Any, *arguments: Any) -> Any:
        number = next(sent)
        if number * 2 + 1 == point:
            os.kill(os.getpid(), signal.SIGKILL)
        result = execute(*arguments)
        if number * 2 == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def act() -> None:
        with connection.execute_wrapper(watch):
            rotate_keys("--batch-size", "3", "--data-keys")

    return act


def count_statements(rows: list[ExternalApi]) -> int:
    sent = []

    def watch(execute: Any, *arguments: Any) -> Any:
        sent.append(1)
        return execute(*arguments)

    with connection.execute_wrapper(watch):
        rotate_keys("--batch-size", "3", "--data-keys")
    return len(sent)


def test_killed_at_twenty_points_it_loses_nothing_and_is_resumed(settings: Any) -> None:
    rows = make(9) + make(9, make_tenant())
    before = values()
    today(settings)
    total = count_statements(rows)
    assert total > 20
    for point in range(1, 2 * total, 2 * total // 20)[:20]:
        EncryptionKey.objects.all().delete()
        settings.ENCRYPTION_KEYS = keys(a=1, b=2)
        data_keys().forget()
        rotate_keys()
        age(ExternalApi.objects.filter(pk__in=[row.pk for row in rows[:5]]))
        EncryptionKey.objects.update(retired_at=None)
        today(settings)
        assert take_census().remaining > 5
        ended = in_a_child(killed_at(point))
        assert os.WIFSIGNALED(ended), point
        assert os.WTERMSIG(ended) == signal.SIGKILL
        assert values() == before, point
        rotate_keys("--batch-size", "3")
        assert values() == before, point
        assert take_census().remaining == 0, point
        settings.ENCRYPTION_KEYS = keys(b=2)
        data_keys().forget()
        verify_keys()
        assert values() == before, point


def test_a_change_between_reading_and_resealing_wins(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make(3)
    age(rows)
    really_store = rotation._store

    def changed_just_before(*arguments: Any) -> int:
        monkeypatch.setattr(rotation, "_store", really_store)
        rows[1].secrets = {"k": "changed"}
        rows[1].save()
        return really_store(*arguments)

    monkeypatch.setattr(rotation, "_store", changed_just_before)
    today(settings)
    assert "2 resealed, 1 in use" in rotate_keys()
    assert values_of(rows) == ["v0", "changed", "v2"]


# --- under traffic ------------------------------------------------------------------------------------------------


class Traffic:
    """A reader and a writer in threads of their own, until `stop`."""

    def __init__(self, rows: list[ExternalApi]) -> None:
        self.rows = rows
        self.failures: list[BaseException] = []
        self.written: dict[str, str] = {}
        self.reads = self.writes = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            while not self._stop.is_set():
                work()
        except BaseException as error:
            self.failures.append(error)
        finally:
            connection.close()

    def _read(self) -> None:
        for row in ExternalApi.objects.all():
            assert row.secrets["k"]
            self.reads += 1

    def _write(self) -> None:
        """Change some secrets, and save other rows without changing theirs."""
        for row in self.rows[::7]:
            self.writes += 1
            loaded = ExternalApi.objects.get(pk=row.pk)
            if self.writes % 3:
                loaded.secrets = {"k": f"written-{self.writes}"}
                self.written[row.slug] = f"written-{self.writes}"
            loaded.name = str(self.writes)
            loaded.save()


def test_under_traffic_no_read_fails_and_no_write_is_lost(settings: Any) -> None:
    rows = make(40) + make(40, make_tenant())
    today(settings)
    traffic = Traffic(rows)
    try:
        for _ in range(2):
            rotate_keys("--batch-size", "5", "--data-keys")
    finally:
        traffic.stop()
    assert traffic.failures == []
    assert traffic.reads > 100
    assert traffic.writes > 20
    assert values() == {row.slug: traffic.written.get(row.slug, row.secrets["k"]) for row in rows}
    rotate_keys()
    assert take_census().remaining == 0
