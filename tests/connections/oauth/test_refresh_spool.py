"""The spool: what is on the disk, what hostile files do, and which answers a recovery takes."""

from __future__ import annotations

import json
import os
import random
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from connections.models import ConnectionStatus, ExternalApiConnection, Grant, GrantState
from connections.oauth import late, leases, refresh
from connections.oauth.recovery import Recovered, recover
from connections.oauth.spool import Entry, Spool, files
from connections.oauth.tokens import Tokens
from connections.services import update_connection
from external_apis.crypto import KEY_BYTES, Form, Key, Sealed
from external_apis.data_keys import data_keys, key_of
from external_apis.shredding import shred
from tests.factories import make_tenant
from tests.grants import grant_of, kinds, make_granted, secrets_of, stored
from tests.token_server import TokenServer, token_server

KEY = Key("k-of-the-tests", bytes(KEY_BYTES), Form.UNDER_MASTER_KEY)
SECRET = b"at-spooled-and-secret"


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.SPOOL_DIR = str(tmp_path / "spool")
    return tmp_path / "spool"


@pytest.fixture
def server(settings: Any) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    with token_server() as started:
        yield started


def entries(count: int) -> list[Entry]:
    return [Entry.seal(f"conn_{number}", number, "schedule", SECRET, KEY) for number in range(count)]


def left_behind(folder: Path, given: list[Entry]) -> Path:
    """A file as a process leaves it that is killed."""
    spool = Spool(folder)
    spool.append(given)
    spool.abandon()
    (path,) = folder.glob("*.spool")
    return path


def read() -> list[Entry]:
    with files() as found:
        return [entry for file in found for entry in file.entries()]


def test_entries_come_back_and_nothing_is_in_clear(folder: Path) -> None:
    spool = Spool(folder)
    spool.append(entries(3))
    (path,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (0o700, 0o600)
    assert SECRET not in path.read_bytes()
    with files() as found:
        assert [file.is_left for file in found] == [False]
        found[0].remove()
    assert [entry.open(KEY) for entry in read()] == [SECRET] * 3
    spool.settle(entries(2))
    assert len(read()) == 3
    spool.settle(entries(3))
    assert path.stat().st_size == 0
    spool.abandon()
    with files() as found:
        assert [file.is_left for file in found] == [True]


def test_an_entry_opens_for_its_own_turn_alone(folder: Path) -> None:
    entry = entries(2)[1]
    moved = Entry(entry.connection_id, entry.fence + 1, entry.cause, entry.sealed)
    with pytest.raises(Exception, match="does not open"):
        moved.open(KEY)


def test_a_file_cut_off_anywhere_gives_the_whole_records_before(folder: Path) -> None:
    path = left_behind(folder, entries(2))
    whole = path.read_bytes()
    first = len(entries(1)[0].frame())
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert len(read()) == (length >= first)


def test_hostile_bytes_are_passed_over(folder: Path) -> None:
    chance = random.Random(4)
    path = left_behind(folder, entries(2))
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(damaged))
        assert len(read()) <= 1
        path.write_bytes(chance.randbytes(chance.randrange(100)))
        assert read() == []


def test_foreign_files_are_left_alone(folder: Path, tmp_path: Path) -> None:
    path = left_behind(folder, entries(1))
    (tmp_path / "target").write_bytes(path.read_bytes())
    (folder / "link.spool").symlink_to(tmp_path / "target")
    (folder / "folder.spool").mkdir()
    os.mkfifo(folder / "pipe.spool")
    (folder / "notes.txt").write_bytes(path.read_bytes())
    assert len(read()) == 1
    with files() as found:
        assert [file.path for file in found] == [path]


def test_a_folder_that_others_may_read_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="0700"):
        Spool(folder).append(entries(1))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 100 bytes: the system refuses the rest of a record, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_what_was_there(folder: Path) -> None:
    spool = Spool(folder)
    spool.append(entries(1))
    with full_disk(), pytest.raises(OSError, match="too large"):
        spool.append(entries(3))
    assert len(read()) == 1
    spool.append(entries(2))
    assert len(read()) == 3
    spool.abandon()


# --- recovery ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_with_a_full_disk_the_answer_goes_straight_into_the_database(folder: Path, server: TokenServer) -> None:
    row = make_granted(server)
    with full_disk():
        refresh.refresh_token(row.pk)
    assert secrets_of(row)["access_token"] != "at-old"


def answered(row: ExternalApiConnection, lease: leases.Lease, **tokens: Any) -> Entry:
    """What a holder had spooled when it died."""
    key = key_of(Sealed(stored(row).credential.__dict__["secrets"]))
    content = {
        "tokens": Tokens("at-spooled", "rt-familyS-1", **tokens).to_json(),
        "consumed": late.consumed(secrets_of(row)["refresh_token"]),
    }
    return Entry.seal(row.pk, lease.fence, "schedule", json.dumps(content).encode(), key)


def claim(row: ExternalApiConnection) -> leases.Lease:
    lease = leases.claim(row.pk)
    assert lease
    return lease


def run_out(row: ExternalApiConnection) -> None:
    Grant.objects.filter(pk=row.pk).update(leased_until=timezone.now() - timedelta(seconds=1))


@pytest.mark.django_db(transaction=True)
def test_a_left_answer_is_applied_once(folder: Path, server: TokenServer) -> None:
    row = make_granted(server)
    left_behind(folder, [answered(row, claim(row), expires_at=timezone.now() + timedelta(hours=1))])
    assert recover() == Recovered(applied=1)
    assert secrets_of(row)["refresh_token"] == "rt-familyS-1"
    assert (grant_of(row).state, grant_of(row).leased_until, kinds(row)) == (GrantState.GOOD, None, ["refreshed"])
    assert list(folder.iterdir()) == []
    assert recover() == Recovered()


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_turns_up_late_mends_a_grant_that_was_given_up(folder: Path, server: TokenServer) -> None:
    """As when the machine that had it comes back."""
    row = make_granted(server)
    entry = answered(row, claim(row))
    for _ in range(2):
        run_out(row)
        claim(row)
    Grant.objects.filter(pk=row.pk).update(leased_until=None, state=GrantState.ENDED, incident="expired")
    ExternalApiConnection.objects.filter(pk=row.pk).update(status=ConnectionStatus.EXPIRED)
    left_behind(folder, [entry])
    assert recover().applied == 1
    assert (grant_of(row).state, stored(row).status) == (GrantState.GOOD, ConnectionStatus.ACTIVE)
    assert kinds(row) == ["restored"]


@pytest.mark.django_db(transaction=True)
def test_an_answer_older_than_what_is_stored_is_dropped(folder: Path, server: TokenServer) -> None:
    row = make_granted(server)
    entry = answered(row, claim(row))
    update_connection(row, {"credentials": {"access_token": "at-pasted", "refresh_token": "rt-familyP-0"}})
    left_behind(folder, [entry])
    assert recover() == Recovered(dropped=1)
    assert secrets_of(row)["access_token"] == "at-pasted"


@pytest.mark.django_db(transaction=True)
def test_a_revoked_connection_gets_no_tokens_back(folder: Path, server: TokenServer) -> None:
    row = make_granted(server)
    entry = answered(row, claim(row))
    update_connection(row, {"status": "revoked"})
    left_behind(folder, [entry])
    assert recover() == Recovered(dropped=1)
    assert secrets_of(row)["access_token"] == "at-old"


@pytest.mark.django_db(transaction=True)
def test_what_another_holder_is_busy_with_waits(folder: Path, server: TokenServer) -> None:
    row = make_granted(server)
    entry = answered(row, claim(row))
    run_out(row)
    claim(row)
    path = left_behind(folder, [entry])
    assert recover() == Recovered(kept=1)
    assert path.exists()
    run_out(row)
    assert recover() == Recovered(applied=1)


@pytest.mark.django_db(transaction=True)
def test_an_unknown_key_keeps_the_record_and_a_shredded_one_drops_it(folder: Path, server: TokenServer) -> None:
    tenant = make_tenant()
    row = make_granted(server, tenant=tenant)
    lease = claim(row)
    good = answered(row, lease)
    foreign = Key("dk_of_another_database", bytes(KEY_BYTES), Form.UNDER_DATA_KEY)
    path = left_behind(folder, [Entry.seal(row.pk, lease.fence, "schedule", b"{}", foreign)])
    assert recover() == Recovered(kept=1)
    path.unlink()
    left_behind(folder, [good])
    shred(tenant)
    data_keys().forget()
    assert recover() == Recovered(dropped=1)
    assert list(folder.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_damage_in_the_middle_loses_no_other_record_and_keeps_the_file_aside(folder: Path, server: TokenServer) -> None:
    rows = [make_granted(server) for _ in range(3)]
    given = [answered(row, claim(row)) for row in rows]
    path = left_behind(folder, given)
    damaged = bytearray(path.read_bytes())
    damaged[len(given[0].frame()) + 40] ^= 1
    path.write_bytes(bytes(damaged))
    assert recover() == Recovered(applied=2)
    assert [secrets_of(row)["access_token"] for row in rows] == ["at-spooled", "at-old", "at-spooled"]
    assert [kept.name for kept in folder.iterdir()] == [f"{path.stem}.damaged"]
    assert (folder / f"{path.stem}.damaged").read_bytes() == bytes(damaged)
    assert recover() == Recovered()
