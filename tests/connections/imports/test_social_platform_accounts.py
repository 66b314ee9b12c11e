"""What an old account's row says, in the connection that it becomes."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from connections.imports.social_platforms.accounts import read_account
from connections.imports.social_platforms.encryption_keys import OldKeys
from connections.imports.social_platforms.old_rows import read_row, read_time
from connections.imports.social_platforms.platforms import define
from connections.imports.social_platforms.refusals import reason_of
from connections.models import ConnectionStatus
from external_apis import api_config
from external_apis.errors import InvalidInput

CONFIG = api_config.parse({"base_url": "https://api.example.com", "auth_type": "bearer"})


def read(**columns: Any) -> Any:
    row = read_row("social_platform_account", {"id": "a", "access_token": "t", **columns}, OldKeys())
    return read_account(row, CONFIG, timezone.now(), "origin")


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ({"provider_data": ["a", "b"]}, {"provider_data": ["a", "b"]}),
        ({"provider_data": "a text"}, {"provider_data": "a text"}),
        ({"provider_data": ["a"], "credentials": {"expires_at": None}}, {"provider_data": ["a"]}),
        ({"provider_data": {"page_name": "P"}, "credentials": {"token_type": "Bearer"}}, {}),
        ({"provider_data": None, "credentials": [1, "a"]}, {"credentials": [None, None]}),  # which were sealed
        ({"provider_data": None, "credentials": True}, {"credentials": True}),
        ({"provider_data": None, "credentials": "a text"}, {}),
        ({"provider_data": [], "credentials": {}}, {}),
    ],
)
def test_what_is_no_object_is_kept_beside_the_row(columns: dict[str, Any], kept: dict[str, Any]) -> None:
    origin = read(**columns).provider_data["imported_from"]
    assert {name: origin[name] for name in ("provider_data", "credentials") if name in origin} == kept


@pytest.mark.parametrize("value", [False, "f", "false", "False", "FALSE", " no ", "N", "off", "0", 0])
def test_what_was_switched_off_is_revoked(value: Any) -> None:
    account = read(is_active=value, status="active")
    assert account.status == ConnectionStatus.REVOKED
    assert account.notes == ("switched off in the old system: imported as revoked, to be made active before use",)


@pytest.mark.parametrize("value", [True, "t", "TRUE", "Yes", "on", 1, "1", 1.0, "1.0", None, "", "NULL", "\\N"])
def test_what_was_switched_on_or_never_said_so_is_active(value: Any) -> None:
    assert read(is_active=value, status="active").status == ConnectionStatus.ACTIVE


@pytest.mark.parametrize("value", ["disabled", "2", -1, 0.5, [], {}, [False], "false " * 5_000])
def test_what_may_be_switched_off_or_not_is_left_out(value: Any) -> None:
    with pytest.raises(InvalidInput, match="is_active is neither true nor false") as refusal:
        read(is_active=value, status="active")
    assert reason_of(refusal.value) == "that may be switched off or not"


@pytest.mark.parametrize("value", ["NULL", "null", "\\N", "None", "undefined"])
def test_a_column_that_says_nothing_is_empty(value: str) -> None:
    row = read_row("social_platform_account", {"id": "a", "deleted_at": value, "user_id": value}, OldKeys())
    assert (row.is_deleted, row.column("user_id")) == (False, value)  # whoever is called so is not nobody
    assert read(status=value).status == ConnectionStatus.ERROR  # nobody was ever told to be active


@pytest.mark.django_db
def test_a_platform_that_was_switched_off_is_inactive() -> None:
    row = {"id": "p", "name": "Facebook", "is_active": "No"}
    assert define(read_row("social_platform", row, OldKeys())).body["status"] == "inactive"
    with pytest.raises(InvalidInput, match="neither true nor false"):
        define(read_row("social_platform", {**row, "is_active": "perhaps"}, OldKeys()))


@pytest.mark.parametrize(
    ("retrieved_at", "seconds"), [("9998-12-31T00:00:00Z", 999_999_999), ("9998-12-30T23:59:59Z", "2")]
)
def test_a_token_that_ends_beyond_all_time_fails_its_row(retrieved_at: str, seconds: int | str) -> None:
    with pytest.raises(InvalidInput, match="expires_in leads to no time") as refusal:
        read(credentials={"expires_in": seconds, "retrieved_at": retrieved_at})
    assert reason_of(refusal.value) == "with times that are none"
    assert (
        read(credentials={"expires_in": 5, "retrieved_at": "2024-01-01"}).credentials.facts["expires_at"].year == 2024
    )


@pytest.mark.parametrize(
    "value", ["", "soon", "2024-13-01", True, [], 10**30, -5, "9" * 15, "0001-01-01", float("1e300")]
)
def test_what_is_no_time(value: Any) -> None:
    with pytest.raises(ValueError, match="is "):
        read_time(value)
