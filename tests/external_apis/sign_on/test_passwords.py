"""Passwords: how often one may be wrong, and switched off altogether."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
import time_machine
from axes.models import AccessAttempt
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from external_apis.models import AuditEvent
from tests.external_apis.sign_on.conftest import SignOn
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"


def try_in(name: str, password: str, address: str = "192.0.2.1", client: Client | None = None) -> Any:
    return (client or Client()).post(LOGIN, {"username": name, "password": password}, REMOTE_ADDR=address)


def lock(name: str, address: str = "192.0.2.1") -> Any:
    for _ in range(4):
        assert try_in(name, "wrong", address).status_code == 200
    return try_in(name, "wrong", address)


def test_five_wrong_ones_lock_this_name_from_this_address_alone() -> None:
    for name in ("ann", "bob"):
        make_user(name, is_superuser=True)
    page = lock("ann")
    assert page.status_code == 429
    assert "Too many wrong passwords" in page.content.decode()
    assert try_in("ann", PASSWORD).status_code == 429, "the right one comes too late"
    assert try_in("ann", PASSWORD, "192.0.2.2").status_code == 302, "elsewhere nothing happened"
    assert try_in("bob", PASSWORD).status_code == 302, "nor to others behind the same proxy"


def test_a_made_up_forwarded_address_changes_nothing() -> None:
    make_user("ann")
    for number in range(5):
        page = Client().post(
            LOGIN,
            {"username": "ann", "password": "wrong"},
            REMOTE_ADDR="192.0.2.1",
            HTTP_X_FORWARDED_FOR=f"198.51.100.{number}",
            HTTP_USER_AGENT=f"browser {number}",
        )
    assert page.status_code == 429


def test_the_lock_cools_off_and_knocking_does_not_prolong_it() -> None:
    make_user("ann")
    with time_machine.travel(timezone.now(), tick=False) as clock:
        lock("ann")
        clock.shift(14 * 60)
        assert try_in("ann", PASSWORD).status_code == 429
        clock.shift(2 * 60)
        assert try_in("ann", PASSWORD).status_code == 302


def test_a_right_one_forgets_the_wrong_ones() -> None:
    make_user("ann")
    for _ in range(2):
        for _ in range(4):
            try_in("ann", "wrong")
        assert try_in("ann", PASSWORD).status_code == 302


def test_an_operator_unlocks() -> None:
    make_user("ann")
    lock("ann")
    call_command("axes_reset", stdout=StringIO())
    assert try_in("ann", PASSWORD).status_code == 302


def test_no_password_is_stored_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    make_user("ann")
    try_in("ann", "my-other-password")
    try_in("my-other-password", "x")
    attempt = AccessAttempt.objects.get(username="ann")
    assert "my-other-password" not in attempt.get_data + attempt.post_data
    assert "my-other-password" not in caplog.text


def test_what_happens_is_audited_and_a_lock_once() -> None:
    user = make_user("ann")
    client = Client()
    try_in("ann", PASSWORD, client=client)
    client.post("/admin/logout/", REMOTE_ADDR="192.0.2.1")
    lock("ann")
    for _ in range(3):
        try_in("ann", "wrong")
    lock("nobody-of-this-name")
    events = AuditEvent.objects.order_by("pk")
    assert [event.action for event in events] == ["user.signed_in", "user.signed_out", "user.locked_out"]
    assert {(event.object_type, event.object_id, event.address) for event in events} == {
        ("user", str(user.pk), "192.0.2.1")
    }


def test_the_log_in_page_offers_what_is_configured(sign_on: Callable[..., SignOn], settings: Any) -> None:
    page = Client().get(LOGIN).content.decode()
    assert 'name="password"' in page
    assert "your organisation" not in page
    sign_on()
    page = Client().get(f"{LOGIN}?next=/admin/auth/user/").content.decode()
    assert 'name="password"' in page
    assert "/admin/sign-on?next=%2Fadmin%2Fauth%2Fuser%2F" in page
    settings.PASSWORD_LOGIN = False
    page = Client().get(LOGIN).content.decode()
    assert 'name="password"' not in page
    assert "/admin/sign-on" in page


def test_switched_off_no_password_works_anywhere(settings: Any) -> None:
    settings.PASSWORD_LOGIN = False
    make_user("ann", is_superuser=True)
    answer = try_in("ann", PASSWORD)
    assert answer.status_code == 200
    assert "sessionid" not in answer.cookies
    assert settings.SESSION_COOKIE_NAME not in answer.cookies
    client = Client()
    client.force_login(make_user("bob"))
    assert client.get("/admin/").status_code == 200, "sessions of the provider's people go on"
