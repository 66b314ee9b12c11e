"""Accounts of the old tables that are one another's twins, and those that only look so."""

from __future__ import annotations

from pathlib import Path

import pytest

from connections.models import ExternalApiConnection, ImportRun
from connections.services import delete_connection
from external_apis.models import Tenant
from tests.connections.imports.social_platform_files import FACEBOOK, run, write

pytestmark = pytest.mark.django_db

SAME_GRANT = "accounts: of a refresh token that another connection has: only one of them may renew it"
TWIN = "accounts: of a page and tokens that another account has too"


def test_tenants_of_one_name_are_not_one(tmp_path: Path) -> None:
    tenants = [Tenant.objects.create(slug=slug, name="Ann's Wool") for slug in ("wool-1", "wool-2")]
    rows = [{"id": one.slug, "access_token": "shared", "sales_channel_id": one.slug} for one in tenants]
    answer = run(*write(tmp_path, *rows), "--apply")
    assert answer["accounts"]["migrated"] == 2, answer["reasons"]
    assert set(ExternalApiConnection.objects.values_list("tenant", flat=True)) == {one.pk for one in tenants}


def test_a_token_of_two_platforms_or_users_is_of_two_accounts(tmp_path: Path) -> None:
    rows = [{"id": slug, "platform_id": slug, "access_token": "shared"} for slug in ("fb", "ig")]
    rows.append({**rows[0], "id": "of-somebody", "user_id": "user_01"})  # who is not here
    platforms = [{"id": "fb", "name": "Facebook"}, {"id": "ig", "name": "Instagram"}]
    answer = run(*write(tmp_path, *rows, platforms=platforms), "--apply")
    assert answer["accounts"]["migrated"] == 3, answer["reasons"]
    found = ExternalApiConnection.objects.order_by("external_api__slug").values_list("external_api__slug", flat=True)
    assert list(found) == ["facebook", "facebook", "instagram"]


def test_one_refresh_token_on_two_pages(tmp_path: Path) -> None:
    tokens = {"credentials": {"access_token": "a", "refresh_token": "r"}}
    options = write(tmp_path, {"id": "a", "page_id": "1", **tokens}, {"id": "b", "page_id": "2", **tokens})
    for answer in (run(*options), run(*options, "--apply")):
        assert answer["accounts"] == {"migrated": 1, "recognised": 0, "skipped": 0, "failed": 1}
        assert answer["reasons"] == {SAME_GRANT: 1}
    assert ExternalApiConnection.objects.get().provider_data["page_id"] == "1"


def test_what_was_refused_is_not_counted_again_on_going_on(tmp_path: Path) -> None:
    one, two = ({"credentials": {"access_token": "a", "refresh_token": token}} for token in ("r1", "r2"))
    run(*write(tmp_path, {"id": "their-1", **one}, {"id": "their-2", **two}), "--apply")
    same, other_page = {"id": "same", **one}, {"id": "other", "page_id": "2", **two}
    ours = write(tmp_path, same, same, other_page, {"id": "of-slug", "access_token": "t"}, platforms=[FACEBOOK])
    first = run(*ours, "--source-name", "ours", "--apply")
    found = ImportRun.objects.get(pk=first["run"])
    assert first["accounts"] == {"migrated": 1, "recognised": 0, "skipped": 2, "failed": 1}
    # The connection that was made is somebody else's from now on: its slug is taken.
    found.rows.filter(source_key__endswith=":of-slug").delete()
    counts = []
    for taken in (1, 0):
        ImportRun.objects.filter(pk=found.pk).update(state="interrupted")
        again = run(*ours, "--source-name", "ours", "--apply")
        assert again["accounts"] == {"migrated": 0, "recognised": 0, "skipped": 0, "failed": taken}
        found.refresh_from_db()
        counts.append(found.counts)
    assert counts[0] == counts[1] == {"created": 1, "recognised": 1, "skipped": 2, "failed": 2}


def test_pages_that_share_an_access_token_are_recognised_from_another_source(tmp_path: Path) -> None:
    rows = [{"id": f"D{n}", "page_id": f"PD{n}", "access_token": "shared"} for n in range(3)]
    assert run(*write(tmp_path, *rows), "--apply")["accounts"]["migrated"] == 3
    new = {"id": "D3", "page_id": "PD3", "access_token": "shared"}
    for source in ("two", "three"):
        answer = run(*write(tmp_path, *rows, new), "--source-name", source, "--apply")
        assert answer["accounts"]["migrated"] == (1 if source == "two" else 0), answer
        assert answer["reasons"] == {TWIN: 3 if source == "two" else 4}
    assert ExternalApiConnection.objects.count() == 4


def test_what_was_deleted_here_holds_no_grant_and_does_not_come_back_as_its_twin(tmp_path: Path) -> None:
    tokens = {"credentials": {"access_token": "a", "refresh_token": "r"}}
    first = {"id": "a", "page_id": "1", **tokens}
    run(*write(tmp_path, first), "--apply")
    delete_connection(ExternalApiConnection.objects.get())
    heir, twin = {"id": "b", "page_id": "2", **tokens}, {**first, "id": "its-twin"}
    for options in ((), ("--apply",)):
        answer = run(*write(tmp_path, first, twin, heir), *options)
        assert answer["accounts"] == {"migrated": 1, "recognised": 0, "skipped": 2, "failed": 0}
        assert answer["reasons"] == {"accounts: imported before and deleted here since": 1, TWIN: 1}
    assert ExternalApiConnection.objects.get(deleted_at=None).provider_data["page_id"] == "2"
