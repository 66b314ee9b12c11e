"""``manage.py import_social_platforms`` against the old tables in every state."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from connections.imports import storing
from connections.imports.social_platforms import row_batches
from connections.imports.social_platforms.old_database import OldDatabase
from connections.models import ConnectionStatus, ExternalApiConnection, GrantState, ImportedRow, ImportRun
from connections.services import get_connection
from external_apis.errors import ConnectionExpired, ConnectionRevoked, InvalidInput
from external_apis.models import AuditEvent, ExternalApi, OutboxEvent
from external_apis.providers import open_config
from tests.connections.imports.old_tables import ACCOUNTS, PAGE_ID, OldShop, accounts, key_file_text, old_shop
from tests.connections.imports.social_platform_files import failed_rows, run, write
from tests.factories import make_tenant, make_user
from tests.processes import dying, in_child

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def shop(django_db_setup: None, django_db_blocker: Any) -> Iterator[OldShop]:
    with django_db_blocker.unblock(), old_shop() as made:
        yield made


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "old.env"
    path.write_text(key_file_text())
    return path


@pytest.fixture
def importing(shop: OldShop, key_file: Path, tmp_path: Path) -> Any:
    """The command on the old shop, with its keys."""
    report = tmp_path / "failed.jsonl"
    return partial(run, "--database-url", shop.url, "--encryption-key-file", key_file, "--report", report)


def imported(state: str) -> ExternalApiConnection:
    """The connection that an old account in this state became."""
    key = ImportedRow.objects.get(source_key=f"social_platform_account:spa_{state}")
    return ExternalApiConnection.objects.select_related("credential", "external_api").get(pk=key.object_id)


def test_every_row_is_imported_or_told_of(importing: Any) -> None:
    answer = importing("--apply")
    assert answer["platforms"] == {"migrated": 6, "recognised": 1, "skipped": 1, "failed": 0}
    # One of the migrated accounts is WhatsApp's, which stands in its platform's row.
    assert answer["accounts"] == {"migrated": 15, "recognised": 0, "skipped": 2, "failed": 6}
    assert sum(answer["accounts"].values()) == len(accounts()) + 1
    assert answer["reasons"] == {
        "platforms: deleted in the old system": 1,
        "accounts: deleted in the old system": 1,
        "accounts: of a page and tokens that another account has too": 1,
        "accounts: with secrets that do not open": 2,
        "accounts: without any credential": 1,
        "accounts: with times that are none": 1,
        "accounts: of a platform that is not in the source": 1,
        "accounts: of a tenant or partner that is not here": 1,
    }
    failed = {"spa_broken", "spa_lost_key", "spa_empty", "spa_no_time", "spa_no_platform", "spa_channel"}
    assert failed_rows(answer).keys() == failed
    assert "key version 9" in failed_rows(answer)["spa_lost_key"]["message"]
    assert ExternalApiConnection.objects.count() == 15
    assert ImportRun.objects.get().state == "finished"


def test_known_platforms_are_the_catalogues(importing: Any) -> None:
    answer = importing("--apply")
    by_slug = {api.slug: api for api in ExternalApi.objects.all()}
    facebook = by_slug["facebook"]
    assert (facebook.provider, facebook.category, facebook.status) == ("meta", "social", "active")
    assert facebook.api_config["base_url"] == "https://graph.facebook.com/v18.0"
    assert facebook.api_config["rate_limit"]["requests_per_hour"] == 9
    assert facebook.api_config["oauth2"]["scopes"] == ["pages_manage_posts"]
    assert dict(facebook.secrets) == {"oauth2.client_id": "fb-app-1", "oauth2.client_secret": "fb-app-secret"}
    assert facebook.metadata["imported_from"]["id"] == "sp_01_facebook"
    assert dict(by_slug["twitter"].secrets) == {"oauth1.consumer_key": "tw-key", "oauth1.consumer_secret": "tw-secret"}
    assert imported("of_second_row").external_api == facebook  # the same client, so the same provider
    assert any("facebook" in remark and "was taken" in remark for remark in answer["remarks"])


def test_unknown_platforms_are_made_of_their_row(importing: Any) -> None:
    answer = importing("--apply")
    by_slug = {api.slug: api for api in ExternalApi.objects.all()}
    pixelpost, craft = by_slug["pixelpost"], by_slug["craft-market"]
    assert (pixelpost.category, pixelpost.status) == ("other", "inactive")
    assert pixelpost.api_config["base_url"] == "https://unknown.invalid"
    assert (craft.category, craft.status) == ("shipping", "active")
    assert open_config(craft).api_config.base_url == "https://api.craftmarket.example/v1"
    assert imported("unknown_platform").credential.secrets["access_token"] == "px-token"
    remarks = "\n".join(answer["remarks"])
    assert "PixelPost: is unknown to the catalogue" in remarks
    assert "webhook was left out" in remarks


def test_tokens_are_sealed_for_their_new_row(importing: Any) -> None:
    importing("--apply")
    assert dict(imported("second_key").credential.secrets) == {"access_token": "fb-second"}
    oauth1 = imported("oauth1").credential.secrets
    assert dict(oauth1) == {"oauth_token": "tw-token", "oauth_token_secret": "tw-token-secret"}
    assert imported("clear_is_newer").credential.secrets["access_token"] == "fb-fresh-in-clear"
    craft = imported("craft").credential.secrets  # a bearer provider has no use for a refresh token
    assert json.loads(craft["additional_data"]) == {"credentials.refresh_token": "craft-refresh"}
    connection = get_connection(imported("living").pk)
    assert connection.credentials["access_token"] == "fb-living"
    assert connection.provider_data["page_id"] == PAGE_ID
    whatsapp = ExternalApiConnection.objects.get(external_api__slug="whatsapp")
    assert dict(whatsapp.credential.secrets) == {"access_token": "wa-token-1234567890"}
    assert whatsapp.provider_data["phone_number_id"] == "4711"


def test_nothing_shown_holds_a_token(importing: Any) -> None:
    answer = importing("--apply")
    importing()
    shown = [answer, failed_rows(answer), *ImportRun.objects.values(), *ImportedRow.objects.values()]
    shown += AuditEvent.objects.values_list("changes", flat=True)
    shown += OutboxEvent.objects.values_list("data", flat=True)
    shown += ExternalApi.objects.values_list("metadata", "api_config")
    shown += ExternalApiConnection.objects.values_list("provider_data", "error_message", "connection_name")
    shown += ExternalApiConnection.history.values_list("provider_data", flat=True)
    text = json.dumps(shown, default=str)
    for secret in (
        "fb-",
        "li-old",
        "li-refresh",
        "li-app",
        "li-secret",
        "tw-token",
        "px-token",
        "craft-token",
        "craft-refresh",
        "wa-token",
        "page-token-",
        "in-a-url",
        "authTag",
    ):
        assert secret not in text, secret
    assert "page-token-000849" in imported("large").credential.secrets["additional_data"]


def test_what_the_row_said_is_kept(importing: Any) -> None:
    importing("--apply")
    large = imported("large").provider_data["imported_from"]
    assert (large["table"], large["id"]) == (ACCOUNTS, "spa_large")
    assert large["row"]["user_id"] == "user_01OLD"
    assert len(large["metadata"]["pages"]) == 850
    assert large["metadata"]["pages"][3] == {"id": "3", "about": "織" * 90}
    assert "Ångström 織物 🪡" in imported("unicode").connection_name
    assert imported("living").provider_data["page_name"] == "Café Ünïcøde 🧵"


def test_states_of_tokens(importing: Any) -> None:
    answer = importing("--apply")
    expired, renewable, revoked, off = map(imported, ("expired", "to_renew", "revoked", "inactive"))
    assert (expired.status, expired.grant.state) == (ConnectionStatus.EXPIRED, GrantState.ENDED)
    with pytest.raises(ConnectionExpired):
        get_connection(expired.pk)
    assert renewable.status == ConnectionStatus.ACTIVE
    assert renewable.grant.due_at
    assert renewable.grant.due_at <= timezone.now()  # the next sweep renews it
    assert renewable.credential.secrets["refresh_token"] == "li-refresh"
    for row in (revoked, off):
        with pytest.raises(ConnectionRevoked):
            get_connection(row.pk)
    notes = answer["notes"]
    assert notes["the access token has ended: to be renewed at once with the refresh token"] == 1
    assert notes["without refresh token: to be connected again when the token ends"] == 10
    assert notes["of a page that another account stands for too"] == 1
    assert notes["with a value in clear that differs from the encrypted one: it is newer and was taken"] == 1


def test_each_connection_has_its_event_and_history(importing: Any) -> None:
    importing("--apply")
    events = AuditEvent.objects.filter(action="connection.created")
    assert events.count() == OutboxEvent.objects.filter(type="connection.created").count() == 15
    assert {event.actor for event in events} == {"command:import_social_platforms"}
    assert ExternalApiConnection.history.filter(history_type="+").count() == 15
    connection = imported("living")
    assert connection.created_by == "command:import_social_platforms"
    assert connection.history.get().connection_name == connection.connection_name


def test_a_dry_run_changes_nothing_and_tells_the_same(importing: Any) -> None:
    before = AuditEvent.objects.count()
    dry = importing()
    assert dry["run"] is None
    assert not ExternalApi.objects.exists()
    assert not ExternalApiConnection.objects.exists()
    assert not ImportRun.objects.exists()
    assert AuditEvent.objects.count() == before
    done = importing("--apply")
    assert {name: dry[name] for name in ("accounts", "reasons", "notes", "platforms")} == {
        name: done[name] for name in ("accounts", "reasons", "notes", "platforms")
    }
    again = importing()
    assert again["accounts"]["migrated"] == 0
    assert again["accounts"]["recognised"] == 15


def test_a_second_import_makes_nothing_twice(importing: Any, shop: OldShop) -> None:
    importing("--apply")
    gone = imported("craft")
    gone.deleted_at = timezone.now()
    gone.save()
    shop.run("UPDATE social_platform_account SET updated_at = updated_at + interval '1 day' WHERE id = 'spa_living'")
    again = importing("--apply")
    shop.run("UPDATE social_platform_account SET updated_at = updated_at - interval '1 day' WHERE id = 'spa_living'")
    assert again["accounts"] == {"migrated": 0, "recognised": 14, "skipped": 3, "failed": 6}
    assert again["platforms"]["recognised"] == 7
    assert again["reasons"]["accounts: imported before and deleted here since"] == 1
    assert again["notes"] == {"changed in the old system since it was imported: left here as it is": 1}
    assert ExternalApiConnection.objects.count() == 15
    assert ImportRun.objects.count() == 2


def test_undo_leaves_what_was_changed(importing: Any) -> None:
    answer = importing("--apply")
    changed = imported("living")
    changed.connection_name = "Ours now"
    changed.save()
    undone = run("--undo", answer["run"])
    assert undone["removed"] == 14 + 5
    assert {left["source_key"] for left in undone["left"]} == {
        "social_platform_account:spa_living",
        "social_platform:sp_01_facebook",
    }
    assert list(ExternalApiConnection.objects.all()) == [changed]
    assert importing("--apply")["accounts"]["migrated"] == 14


def test_owners_are_found_or_the_row_fails(importing: Any, shop: OldShop) -> None:
    tenant = make_tenant("knitting")
    user = make_user("old.hand", tenant=tenant).external_apis_account
    importing("--apply", "--map", "sc_01KNITTING=knitting", "--map", "user_01OLD=old.hand")
    row = imported("channel")
    assert (row.tenant, row.credential.tenant, row.user) == (tenant, tenant, user)
    assert row.credential.secrets["access_token"] == "fb-channel"
    assert imported("living").user is None  # nobody of a tenant owns what belongs to the whole installation


def test_everything_for_one_tenant(importing: Any) -> None:
    tenant = make_tenant("one")
    answer = importing("--apply", "--tenant", "one")
    assert answer["accounts"]["migrated"] == 16
    assert set(ExternalApiConnection.objects.values_list("tenant", flat=True)) == {tenant.pk}
    assert set(ExternalApi.objects.values_list("tenant", flat=True)) == {tenant.pk}


def test_tables_that_point_at_the_old_ones_are_named(importing: Any) -> None:
    found = {(one["table"], one["column"], one["target"], one["is_foreign_key"]) for one in importing()["references"]}
    assert found == {
        ("old_shop.social_post", "platform_id", "social_platform", True),
        ("old_shop.campaign", "social_platform_account_id", "social_platform_account", False),
    }


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_files_say_the_same_as_the_database(
    shop: OldShop, importing: Any, key_file: Path, tmp_path: Path, kind: str
) -> None:
    importing("--apply")
    platforms, rows = shop.export(tmp_path, kind)
    options = ("--encryption-key-file", key_file, "--report", tmp_path / "files.jsonl")
    from_files = run("--platforms", platforms, "--accounts", rows, *options)
    assert from_files["accounts"] == {"migrated": 0, "recognised": 15, "skipped": 2, "failed": 6}
    assert "changed in the old system" not in json.dumps(from_files["notes"])
    other = run("--platforms", platforms, "--accounts", rows, *options, "--source-name", "other", "--apply")
    # Whatever the source is called, they are the same accounts; only a revoked one has no tokens to know it by.
    assert other["accounts"]["migrated"] == 1
    assert other["reasons"]["accounts: of a page and tokens that another account has too"] == 15


def test_another_client_of_the_same_platform_is_another_provider(tmp_path: Path) -> None:
    platforms, rows = tmp_path / "p.json", tmp_path / "a.json"
    names = ("one", "two", "one")
    platforms.write_text(
        json.dumps([{"id": n, "name": "Facebook", "api_config": {"client_id": c}} for n, c in enumerate(names)])
    )
    rows.write_text(json.dumps([{"id": n, "platform_id": n, "access_token": f"t-{n}"} for n in range(3)]))
    answer = run("--platforms", platforms, "--accounts", rows, "--apply")
    assert answer["platforms"]["migrated"] == 2
    found = ExternalApiConnection.objects.order_by("connection_name").values_list("external_api__slug", flat=True)
    assert list(found) == ["facebook", "facebook-2", "facebook"]


@pytest.mark.django_db(transaction=True)
def test_a_killed_import_goes_on_without_doubling_or_losing(
    shop: OldShop, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_batches, "_ROWS_IN_BATCH", 5)
    options = (
        "--database-url",
        shop.url,
        "--encryption-key-file",
        key_file,
        "--report",
        tmp_path / "r.jsonl",
        "--apply",
    )

    def import_until_killed() -> None:
        calls = iter(range(100))
        store = storing.store
        killing = dying(store)

        # In the middle of the third batch: its rows are in, and not committed.
        def store_or_die(rows: Any) -> None:
            (killing if next(calls) == 3 else store)(rows)

        monkeypatch.setattr(storing, "store", store_or_die)
        run(*options)

    assert in_child(import_until_killed) == -signal.SIGKILL
    stored = ExternalApiConnection.objects.count()
    assert 0 < stored < 15
    broken_off = ImportRun.objects.get()
    answer = run(*options)
    assert answer["run"] == broken_off.pk
    assert (
        ExternalApiConnection.objects.count() == 15 == ImportedRow.objects.filter(object_id__startswith="conn").count()
    )
    assert answer["accounts"]["migrated"] == 15 - stored
    broken_off.refresh_from_db()
    assert broken_off.counts == {"created": 21, "recognised": 1, "skipped": 3, "failed": 6}
    assert len(Path(answer["report"]).read_text().splitlines()) == 6


def test_ctrl_c_ends_after_the_batch(importing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_batches, "_ROWS_IN_BATCH", 5)
    store = storing.store

    def interrupted(rows: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        store(rows)

    with monkeypatch.context() as patch:
        patch.setattr(storing, "store", interrupted)
        with pytest.raises(SystemExit) as ended:
            importing("--apply")
    assert ended.value.code == 130
    assert ImportRun.objects.get().state == "interrupted"
    importing("--apply")
    assert ExternalApiConnection.objects.count() == 15
    assert ImportRun.objects.get().state == "finished"


def test_the_old_database_is_only_read(shop: OldShop) -> None:
    with (
        pytest.raises(InvalidInput, match="read-only transaction"),
        OldDatabase(shop.url)._reading() as session,
    ):
        session.execute(f"DELETE FROM {ACCOUNTS}".encode())
    with old_shop("old_bare", is_filled=False) as bare:
        bare.run("DROP TABLE social_platform CASCADE")
        assert "has no table social_platform" in run("--database-url", bare.url)["error"]


def test_an_import_leaves_to_the_process_what_is_garbage(tmp_path: Path) -> None:
    assert gc.get_freeze_count()  # as in every process that has loaded the product
    assert run(*write(tmp_path, {"id": "a", "access_token": "t"}))["accounts"]["migrated"] == 1
    assert gc.get_freeze_count()


def test_what_a_person_reads(importing: Any, shop: OldShop, key_file: Path, tmp_path: Path) -> None:
    out = StringIO()
    with suppress(CommandError):
        options = ("--database-url", shop.url, "--encryption-key-file", str(key_file), "--report", str(tmp_path / "r"))
        call_command("import_social_platforms", *options, stdout=out, stderr=StringIO())
    text = out.getvalue()
    assert "Accounts: 15 migrated, 2 skipped, 6 failed" in text
    assert "2 accounts: with secrets that do not open" in text
    assert "old_shop.social_post.platform_id → social_platform (foreign key" in text
    assert f"The rows that failed are in {tmp_path / 'r'}" in text
    assert "Nothing was changed. Import with --apply." in text


def test_queries_do_not_grow_with_the_rows(
    importing: Any, shop: OldShop, django_assert_max_num_queries: Any, tmp_path: Path
) -> None:
    rows = [{"id": f"n{n}", "platform_id": "p", "access_token": f"t-{n}", "page_id": n} for n in range(300)]
    platforms, many = tmp_path / "p.json", tmp_path / "a.jsonl"
    platforms.write_text('[{"id": "p", "name": "Facebook"}]')
    many.write_text("\n".join(map(json.dumps, rows)))
    with django_assert_max_num_queries(75):
        answer = run("--platforms", platforms, "--accounts", many, "--apply")
    assert answer["accounts"]["migrated"] == 300


def test_one_refresh_token_is_renewed_by_one_connection(tmp_path: Path) -> None:
    make_tenant("acme")
    first, twin = ({"id": n, "credentials": {"access_token": "a", "refresh_token": "r"}} for n in "ab")
    counted = run(*write(tmp_path, first, twin), "--apply")["accounts"]
    assert counted == {"migrated": 1, "recognised": 0, "skipped": 1, "failed": 0}
    again = run(*write(tmp_path, twin, first), "--apply")["accounts"]
    assert again == {"migrated": 0, "recognised": 1, "skipped": 1, "failed": 0}
    other_page = {**twin, "id": "c", "page_id": "4711"}
    third = run(*write(tmp_path, other_page, first), "--apply")
    assert third["reasons"] == (
        same := {"accounts: of a refresh token that another connection has: only one of them may renew it": 1}
    )
    for_tenant = run(*write(tmp_path, first), "--tenant", "acme")
    assert for_tenant["reasons"] == same
    assert ExternalApiConnection.objects.get().pk in failed_rows(for_tenant)["a"]["message"]
    assert run(*write(tmp_path, first), "--tenant", "acme", "--apply")["reasons"] == same
    assert ExternalApiConnection.objects.count() == 1


def test_systems_with_equal_ids_stand_side_by_side(tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        answer = run(*write(tmp_path, {"id": 1, "access_token": f"t-{name}"}), "--source-name", name, "--apply")
        assert answer["accounts"]["failed"] == 0
    assert ExternalApiConnection.objects.count() == 2


def test_what_a_vendor_answered_decides_nothing(tmp_path: Path) -> None:
    tenant = make_tenant("victim")
    victim = make_user("victim", tenant=tenant).external_apis_account
    claims: dict[str, Any] = {
        "sales_channel_id": tenant.pk,
        "user_id": victim.pk,
        "user_email": victim.user.email,
        "partner_id": "x",
    }
    claims |= {"status": "revoked", "expires_at": "2001-01-01T00:00:00Z", "is_active": False, "platform_id": "q"}
    steal = {"id": "away", "access_token": "t2", "sales_channel_id": tenant.pk, "metadata": {"token": tenant.pk}}
    odd = [
        {"id": f"odd{n}", "access_token": "t", "sales_channel_id": one} for n, one in enumerate((["x"], {"a": 1}, True))
    ]
    odd += [{"id": "odd3", "access_token": "t", "user_id": [victim.pk]}]
    plain = {"id": "plain", "access_token": "t1", "metadata": claims, "provider_data": claims}
    answer = run(*write(tmp_path, plain, steal, *odd), "--apply")
    assert answer["accounts"] == {"migrated": 2, "recognised": 0, "skipped": 0, "failed": 4}
    assert failed_rows(answer)["odd2"]["reason"] == "with an owner or a platform that is no text"
    row = ExternalApiConnection.objects.select_related("credential").get(connection_name="plain")
    assert (row.tenant, row.user, row.status, row.credential.expires_at) == (None, None, "active", None)
    assert ExternalApiConnection.objects.get(connection_name="away").tenant == tenant


def test_going_on_passes_over_no_row_that_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_batches, "_ROWS_IN_BATCH", 2)
    rows = [{"id": f"r{n}", "access_token": f"t{n}"} for n in range(4)]
    mended = {"id": "mended", "access_token": ""}

    run(*write(tmp_path, *rows[:3], mended, rows[3]), "--apply")
    early = {"id": "early", "access_token": "t-early"}
    ImportRun.objects.update(state="interrupted")
    answer = run(*write(tmp_path, early, rows[0], {**mended, "access_token": "t-m"}, *rows[1:]), "--apply")
    assert answer["accounts"]["migrated"] == 2
    assert ExternalApiConnection.objects.count() == 6


def test_expiry_may_be_told_in_seconds(tmp_path: Path) -> None:
    now = timezone.now()
    in_a_minute = {"id": "a", "access_token": "t1", "expires_in": 60, "retrieved_at": now.isoformat()}
    later = {"id": "b", "access_token": "t2", "expires_at": int(now.timestamp() * 1000) + 90_000}
    as_text = {"id": "c", "access_token": "t3", "expires_in": "120", "retrieved_at": now.isoformat()}
    run(*write(tmp_path, in_a_minute, later, as_text), "--apply")
    rows_here = ExternalApiConnection.objects.order_by("connection_name").select_related("credential")
    ends = [row.credential.expires_at - now for row in rows_here if row.credential.expires_at]
    assert [round(end.total_seconds()) for end in ends] == [60, 90, 120]


def test_values_that_python_cannot_hold_are_one_rows_problem(importing: Any, shop: OldShop) -> None:
    odd = {
        "endless": "token_expires_at = 'infinity'",
        "late": "updated_at = '20000-01-01'",
        "before_christ": "created_at = '0044-03-15 BC'",
        "digits": "metadata = ('{\"n\": ' || repeat('9', 6000) || '}')::jsonb",
        "deep": "metadata = (repeat('[', 3000) || repeat(']', 3000))::jsonb",
    }
    rows = [{"id": f"spa_{name}", "social_platform_id": "sp_01_facebook"} for name in odd]
    try:
        shop.insert(ACCOUNTS, [{**row, "credentials": {"access_token": f"t-{row['id']}"}} for row in rows])
        for name, change in odd.items():
            shop.run(f"UPDATE {ACCOUNTS} SET {change} WHERE id = 'spa_{name}'")
        answer = importing("--apply")
    finally:
        shop.run(f"DELETE FROM {ACCOUNTS} WHERE id = ANY(%s)", [[row["id"] for row in rows]])
    assert answer["accounts"] == {"migrated": 16, "recognised": 0, "skipped": 2, "failed": 10}
    told = failed_rows(answer)
    assert told["spa_endless"]["reason"] == told["spa_before_christ"]["reason"] == "with times that are none"
    assert told["spa_digits"]["reason"] == told["spa_deep"]["reason"] == "that cannot be read"
    assert ImportRun.objects.get().state == "finished"
