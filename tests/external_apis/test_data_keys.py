"""Data keys: one for a tenant, sealed under the master key, in memory only; and processes with old keyrings."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from external_apis import data_keys as module
from external_apis.crypto import Form
from external_apis.data_keys import DataKeys, data_keys
from external_apis.errors import RetiredKey, UnknownKey, Unreadable
from external_apis.key_registry import register_writing_key, verify_keys
from external_apis.keyring import keyring
from external_apis.models import DataKey, EncryptionKey, ExternalApi, Tenant
from tests.factories import make_connection, make_tenant
from tests.vault import age, keys, stored, wrapped

pytestmark = pytest.mark.django_db


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(slug: str = "one", tenant: Tenant | None = None, **secrets: str) -> ExternalApi:
    return ExternalApi.objects.create(
        name=slug, slug=slug, provider=slug, tenant=tenant, secrets=secrets or {"api_key.key": "swordfish"}
    )


def opened(row: ExternalApi) -> str:
    return str(ExternalApi.objects.get(pk=row.pk).secrets["api_key.key"])


def test_each_tenant_and_the_global_rows_have_a_key_of_their_own() -> None:
    first, second = make_tenant(), make_tenant()
    rows = [make("a"), make("b"), make("c", first), make("d", first), make("e", second)]
    by_tenant = {key.tenant_id: key.pk for key in DataKey.objects.all()}
    assert set(by_tenant) == {None, first.pk, second.pk}
    for row in rows:
        assert stored(row).form == Form.UNDER_DATA_KEY
        assert stored(row).key_id == by_tenant[row.tenant_id]
        assert opened(row) == "swordfish"


def test_a_credential_is_sealed_under_its_own_tenants_key() -> None:
    tenant = make_tenant()
    credential = make_connection(tenant=tenant).credential
    assert stored(credential).key_id == DataKey.objects.get(tenant=tenant).pk


def test_the_stored_key_opens_only_under_the_master_key_and_for_its_own_row() -> None:
    make("a")
    make("b", make_tenant())
    own, other = DataKey.objects.order_by("pk")
    assert keyring().open(wrapped(own), module.identity(own.pk))
    with pytest.raises(Unreadable):
        module.unwrap(own.pk, wrapped(other))


def test_a_ciphertext_does_not_open_under_another_tenants_key() -> None:
    """Bytes moved between tenants and told to be of the other's key."""
    mine, theirs = make("a", make_tenant()), make("b", make_tenant())
    forged = bytes(stored(mine)).replace(stored(mine).key_id.encode(), stored(theirs).key_id.encode())
    connection.cursor().execute("UPDATE external_apis_externalapi SET secrets = %s WHERE id = %s", [forged, mine.pk])
    with pytest.raises(Unreadable):
        opened(mine)


def test_values_under_a_master_key_open_for_ever_and_are_renewed_when_saved() -> None:
    row = make()
    age([row])
    assert stored(row).form == Form.UNDER_MASTER_KEY
    assert opened(row) == "swordfish"
    loaded = ExternalApi.objects.get()
    assert loaded.secret_facts()["api_key.key"]["keyVersion"] == keyring().writing_key_id
    loaded.name = "renamed"
    loaded.save()
    assert stored(row).form == Form.UNDER_DATA_KEY
    assert opened(row) == "swordfish"


def test_a_row_that_does_not_open_can_still_be_saved() -> None:
    row = make()
    damaged = bytes(stored(row))[:-1] + b"\0"
    connection.cursor().execute("UPDATE external_apis_externalapi SET secrets = %s", [damaged])
    DataKey.objects.update(replaced_at="2026-01-01T00:00:00Z")
    data_keys().forget()
    loaded = ExternalApi.objects.get()
    loaded.name = "renamed"
    loaded.save()
    assert stored(row) == damaged


def test_a_row_that_changes_its_tenant_changes_its_key() -> None:
    row = make()
    row.tenant = make_tenant()
    row.save()
    assert stored(row).key_id == DataKey.objects.get(tenant=row.tenant).pk
    assert opened(row) == "swordfish"


def test_lists_ask_nothing_of_the_keys() -> None:
    for number in range(3):
        make(str(number), make_tenant())
    data_keys().forget()
    with CaptureQueriesContext(connection) as queries:
        assert len([row.secret_facts() for row in ExternalApi.objects.all()]) == 3
    assert len(queries) == 1


def test_a_cold_process_loads_the_tenants_and_the_global_keys_in_one_query() -> None:
    tenant = make_tenant()
    own, shared = make("a", tenant), make("b")
    rows = list(ExternalApi.objects.filter(pk__in=[own.pk, shared.pk]).order_by("slug"))
    data_keys().forget()
    with CaptureQueriesContext(connection) as queries:
        assert [row.secrets["api_key.key"] for row in rows] == ["swordfish"] * 2
    assert len(queries) == 1


@pytest.mark.django_db(transaction=True)
def test_writing_and_opening_ask_the_database_seldom() -> None:
    clock = Clock()
    held = DataKeys(clock)
    key = held.writing(None)
    for elapsed, writes, opens in ((0.9, 0, 0), (1.1, 1, 0), (29.0, 1, 0), (70.0, 1, 0), (101.0, 1, 0)):
        clock.now = elapsed
        with CaptureQueriesContext(connection) as queries:
            assert held.writing(None) is held.writing(None)
        assert len(queries) == writes, elapsed
        with CaptureQueriesContext(connection) as queries:
            assert held.opening(key.id).id == key.id
        assert len(queries) == opens, elapsed
    clock.now = 140.0
    with CaptureQueriesContext(connection) as queries:
        held.opening(key.id)
    assert len(queries) == 1


def test_a_shredded_key_is_forgotten_in_time() -> None:
    clock = Clock()
    held = DataKeys(clock)
    key = held.writing(None)
    DataKey.objects.update(wrapped=None, shredded_at="2026-01-01T00:00:00Z")
    clock.now = 1.1
    assert held.writing(None).id != key.id
    clock.now = 30.1
    for _ in range(2):
        with pytest.raises(Unreadable, match="destroyed"):
            held.opening(key.id)


@pytest.mark.django_db(transaction=True)
def test_a_key_that_was_rolled_back_seals_nothing() -> None:
    class Broken(Exception):
        pass

    held = DataKeys()
    used = []

    def use_and_break() -> None:
        with transaction.atomic():
            used.extend([held.writing(None), held.writing(None)])
            raise Broken

    with pytest.raises(Broken):
        use_and_break()
    assert used[0] is used[1]  # without asking again
    assert not DataKey.objects.exists()
    with transaction.atomic():
        with pytest.raises(Broken):
            use_and_break()
        kept = held.writing(None)
    assert kept not in used
    assert held.writing(None) is kept
    assert DataKey.objects.get().pk == kept.id


def test_a_bulk_insert_asks_for_the_key_once() -> None:
    rows = [ExternalApi(name=str(n), slug=str(n), provider="p", secrets={"k": str(n)}) for n in range(50)]
    make()
    with CaptureQueriesContext(connection) as queries:
        ExternalApi.objects.bulk_create(rows)
    assert sum("datakey" in query["sql"] for query in queries) <= 2


def test_fingerprints_do_not_change_with_the_master_key(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    row = make()
    before = row.secret_fingerprints
    settings.ENCRYPTION_KEYS = keys(b=2, a=1)
    data_keys().forget()
    row.secrets = {"api_key.key": "swordfish"}
    row.save()
    assert row.secret_fingerprints == before
    assert make("two", make_tenant()).secret_fingerprints != before


def test_nothing_shows_or_pickles_an_opened_key() -> None:
    held = DataKeys()
    held.writing(None)
    assert repr(held) == "<DataKeys: 1 opened>"
    with pytest.raises(TypeError):
        pickle.dumps(held)


def test_a_data_keys_history_names_the_actor_and_holds_no_key() -> None:
    make()
    (entry,) = DataKey.objects.get().history.all()
    assert not hasattr(entry, "wrapped")


# --- processes with yesterday's keyring ---------------------------------------------------------------------------


def _rewrap_under(text: str, settings: Any) -> None:
    """What a rotation by a process with these keys leaves behind."""
    before, settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS, text
    for key in DataKey.objects.all():
        place = module.identity(key.pk)
        DataKey.objects.filter(pk=key.pk).update(wrapped=bytes(keyring().reseal(wrapped(key), place)))
    register_writing_key()
    settings.ENCRYPTION_KEYS = before
    data_keys().forget()


def test_an_old_process_takes_newer_keys_from_the_file(settings: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    settings.ENCRYPTION_KEYS, settings.ENCRYPTION_KEYS_FILE = keys(a=1), str(file)
    file.write_text(keys(a=1))
    row = make()
    _rewrap_under(keys(b=2, a=1), settings)
    file.write_text(keys(b=2, a=1) + "\n")
    assert opened(row) == "swordfish"
    assert keyring().writing_key_id == "b"


@pytest.mark.parametrize("content", [None, "nonsense", keys(a=1), keys(c=3)])
def test_an_old_process_says_that_it_is_old(settings: Any, tmp_path: Path, content: str | None) -> None:
    """No file, a damaged one, one that is just as old, one of other keys: the old keys stay and the error is clear."""
    file = tmp_path / "keys"
    settings.ENCRYPTION_KEYS = keys(a=1)
    row = make()
    _rewrap_under(keys(b=2, a=1), settings)
    if content is not None:
        settings.ENCRYPTION_KEYS_FILE = str(file)
        file.write_text(content)
    with pytest.raises(UnknownKey, match=r"'b'.*restarted"):
        opened(row)


def test_a_retired_key_never_writes(settings: Any, tmp_path: Path) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    row = make()
    register_writing_key()
    EncryptionKey.objects.update(retired_at="2026-01-01T00:00:00Z")
    data_keys().forget()
    before = stored(row)
    for write in (lambda: make("two"), lambda: make("three", make_tenant()), row.save, register_writing_key):
        with pytest.raises(RetiredKey, match=r"'a'.*restarted"), transaction.atomic():
            write()
    assert stored(row) == before
    assert ExternalApi.objects.count() == 1
    settings.ENCRYPTION_KEYS_FILE = str(tmp_path / "keys")
    (tmp_path / "keys").write_text(keys(b=2, a=1))
    make("two")
    make("three", make_tenant())
    assert keyring().writing_key_id == "b"


def test_the_start_does_not_demand_a_retired_key(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    register_writing_key()
    settings.ENCRYPTION_KEYS = keys(b=2)
    with pytest.raises(UnknownKey):
        verify_keys()
    EncryptionKey.objects.update(retired_at="2026-01-01T00:00:00Z")
    verify_keys()


def test_the_check_runs_before_the_migration_that_knows_of_retirement(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    register_writing_key()
    connection.cursor().execute("ALTER TABLE external_apis_encryptionkey DROP COLUMN retired_at")
    verify_keys()
