"""One tenant's secrets made unreadable, here and in every backup, and nobody else's."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from external_apis.backup import key_file
from external_apis.backup.key_file import KeptKey
from external_apis.data_keys import data_keys
from external_apis.errors import Conflict, InvalidInput, Unreadable
from external_apis.models import DataKey, ExternalApi, Tenant
from external_apis.rotation import take_census
from external_apis.shredding import shred
from tests.factories import make_connection, make_tenant
from tests.vault import age, store, stored, wrapped

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_file(settings: Any, tmp_path: Path) -> None:
    settings.BACKUP_KEYS_FILE = str(tmp_path / "backup-keys.json")


def make(slug: str, tenant: Tenant | None = None) -> ExternalApi:
    return ExternalApi.objects.create(
        name=slug, slug=slug, provider=slug, tenant=tenant, secrets={"k": f"the long secret of {slug}"}
    )


def reload(row: ExternalApi) -> ExternalApi:
    data_keys().forget()
    return ExternalApi.objects.get(pk=row.pk)


def test_every_secret_of_the_tenant_is_gone_and_no_other() -> None:
    tenant, other = make_tenant(), make_tenant()
    own, moved, aged = (make(slug, tenant) for slug in ("own", "moved", "aged"))
    credential = make_connection(tenant=tenant).credential
    stays = [make("global"), make("other", other)]
    age([aged])
    ExternalApi.objects.filter(pk=stays[0].pk).update(tenant=None)
    done = shred(tenant)
    assert (done.keys, done.rows, done.resealed) == (1, 4, 1)
    for row in (own, moved, aged):
        with pytest.raises(Unreadable, match="destroyed"):
            _ = reload(row).secrets
        assert reload(row).secret_hints == {}
    with pytest.raises(Unreadable):
        _ = type(credential).objects.get(pk=credential.pk).secrets
    for row in stays:
        assert reload(row).secrets["k"].startswith("the long")
        assert reload(row).secret_hints["k"]
    assert DataKey.objects.get(tenant=tenant).wrapped is None
    assert take_census().remaining == 0


def test_a_row_under_a_strangers_key_is_shredded_too() -> None:
    """A row that came to the tenant by an UPDATE is still sealed under the global key."""
    row = make("came", None)
    make("stays", None)
    tenant = make_tenant()
    ExternalApi.objects.filter(pk=row.pk).update(tenant=tenant)
    assert shred(tenant).resealed == 1
    with pytest.raises(Unreadable):
        _ = reload(row).secrets


def test_the_tenant_may_store_new_secrets_and_lists_go_on() -> None:
    tenant = make_tenant()
    old = make("old", tenant)
    shred(tenant)
    assert reload(old).secret_facts()["k"]["hint"] == ""
    renamed = reload(old)
    renamed.name = "renamed"
    renamed.save()
    assert reload(make("new", tenant)).secrets["k"]
    renamed.secrets = {"k": "entered anew"}
    renamed.save()
    assert reload(old).secrets["k"] == "entered anew"


def test_a_process_that_has_not_noticed_stores_under_a_new_key() -> None:
    """Another process shredded: this one still holds the tenant's key as the one to write with."""
    tenant = make_tenant()
    old = make("old", tenant)
    DataKey.objects.filter(tenant=tenant).update(wrapped=None, shredded_at=timezone.now())
    new = make("new", tenant)
    assert reload(new).secrets["k"] == "the long secret of new"
    assert reload(new).secret_facts()["k"]["hint"]
    with pytest.raises(Unreadable):
        _ = reload(old).secrets


def test_the_key_leaves_the_backups_file_and_never_comes_back() -> None:
    tenant = make_tenant()
    make("own", tenant)
    make("global")
    key = DataKey.objects.get(tenant=tenant)
    key_file.update()
    before = wrapped(key)
    assert key_file.read()[key.pk] == KeptKey(tenant.pk, before)
    shred(tenant)
    assert key_file.read()[key.pk] == KeptKey(tenant.pk, None)
    assert before.hex() not in Path(key_file._path()).read_bytes().hex()
    DataKey.objects.filter(pk=key.pk).update(wrapped=before, shredded_at=None)  # as a dump would bring it back
    key_file.update()
    assert key_file.read()[key.pk].wrapped is None
    assert sum(kept.wrapped is not None for kept in key_file.read().values()) == 1


def test_nothing_is_destroyed_when_the_file_cannot_be_written(settings: Any, tmp_path: Path) -> None:
    tenant = make_tenant()
    row = make("own", tenant)
    key_file.update()
    good, settings.BACKUP_KEYS_FILE = settings.BACKUP_KEYS_FILE, str(tmp_path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        shred(tenant)
    assert reload(row).secrets["k"]
    settings.BACKUP_KEYS_FILE = good
    assert shred(tenant).keys == 1
    assert all(kept.wrapped is None for kept in key_file.read().values())


def test_a_file_that_cannot_be_replaced_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file mounted by itself into a container answers."""
    tenant = make_tenant("acme")
    row = make("own", tenant)
    key_file.update()
    before = key_file._path().read_bytes()

    def refuse(*_: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CommandError, match="Mount its folder"):
        run("acme", "--yes-really", "acme")
    assert reload(row).secrets["k"]
    assert key_file._path().read_bytes() == before
    assert not list(key_file._path().parent.glob("*.new"))


def test_a_link_leads_to_the_file_that_is_emptied(settings: Any, tmp_path: Path) -> None:
    tenant = make_tenant()
    make("own", tenant)
    key_file.update()
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to(settings.BACKUP_KEYS_FILE)
    settings.BACKUP_KEYS_FILE, real = str(link), settings.BACKUP_KEYS_FILE
    shred(tenant)
    assert link.is_symlink()
    assert all(kept.wrapped is None for kept in key_file.read(Path(real)).values())
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(InvalidInput):
        key_file.update()


@pytest.mark.parametrize("name", ["another.json", ""])
def test_the_file_that_backups_were_made_with_has_to_be_there(settings: Any, tmp_path: Path, name: str) -> None:
    row = make("own", make_tenant("acme"))
    key_file.update()
    settings.BACKUP_KEYS_FILE = name and str(tmp_path / name)
    with pytest.raises(CommandError, match="BACKUP_KEYS_FILE"):
        run("acme", "--yes-really", "acme")
    assert reload(row).secrets["k"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "x", "version": 1, "keys": {}}', "\0"])
def test_a_damaged_file_is_refused_and_kept(settings: Any, content: str) -> None:
    Path(settings.BACKUP_KEYS_FILE).write_text(content)
    with pytest.raises(InvalidInput, match=r"damaged|unknown"):
        key_file.update()
    assert Path(settings.BACKUP_KEYS_FILE).read_text() == content


def test_the_file_is_its_owners_alone() -> None:
    make("global")
    assert key_file.update() == 1
    path = key_file._path()
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["version"] == 1


def test_rows_that_do_not_open_do_not_stand_in_the_way() -> None:
    tenant = make_tenant()
    row = make("own", tenant)
    store(row, bytes(stored(row))[:-1] + b"\0")
    assert shred(tenant).keys == 1


def test_who_shredded_stands_in_the_history(caplog: pytest.LogCaptureFixture) -> None:
    tenant = make_tenant("acme")
    make("own", tenant)
    assert "There is no " in run("acme", "--yes-really", "acme")
    latest = DataKey.objects.get(tenant=tenant).history.latest()
    assert latest.actor.startswith("command:tenants shred (")
    assert latest.shredded_at
    assert "tenant shredded" in caplog.text
    assert "the long secret" not in caplog.text


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("tenants", "shred", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("answers", "is_destroyed"),
    [
        (["acme", "shred acme"], True),
        (["yes"], False),
        (["acme", "acme"], False),
        (["acme", ""], False),
        (["acme"], False),
        ([], False),
    ],
)
def test_it_asks_twice(monkeypatch: pytest.MonkeyPatch, answers: list[str], is_destroyed: bool) -> None:
    make("own", make_tenant("acme"))
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
    if is_destroyed:
        assert "1 data keys of acme are destroyed" in run("acme")
    else:
        with pytest.raises(CommandError, match="Nothing was destroyed"):
            run("acme")
    assert DataKey.objects.filter(shredded_at=None).exists() is not is_destroyed


def test_scripts_name_the_slug_twice() -> None:
    make("own", make_tenant("acme"))
    for arguments, problem in ((("acme", "--yes-really", "acne"), "Nothing"), (("acne",), "Tenant acne not found")):
        with pytest.raises(CommandError, match=problem):
            run(*arguments)
    assert not DataKey.objects.exclude(shredded_at=None).exists()


def test_nothing_is_destroyed_while_a_row_is_being_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = make_tenant()
    row = make("own", tenant)
    age([row])
    monkeypatch.setattr("external_apis.rotation._store", lambda *_: 0)  # what a locked row comes to
    with pytest.raises(Conflict, match="Nothing was destroyed"):
        shred(tenant)
    assert reload(row).secrets["k"]
