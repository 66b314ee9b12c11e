"""Sessions of users: listed under ids of their own, and ended from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from external_apis import valkey
from external_apis.backoffice.models import UserSession
from external_apis.models import AuditEvent
from tests.envelope import EXTERNAL, data_of, failure_of
from tests.envelope import client_of as client_with
from tests.factories import PASSWORD, make_key, make_user
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
INSIDE = "/admin/password_change/"


@pytest.fixture
def api() -> RestClient:
    return client_with(make_key(scopes=["users:read", "users:write"]).token)


@pytest.fixture
def ada() -> User:
    return make_user("ada")


def sessions_of(user: User) -> str:
    return f"{EXTERNAL}/users/{user.external_apis_account.pk}/sessions"


def browser(user: User, name: str = "Browser/1.0") -> Client:
    """A browser that has logged in through the page."""
    client = Client(headers={"User-Agent": name})
    answer = client.post("/admin/login/", {"username": user.username, "password": PASSWORD}, REMOTE_ADDR="192.0.2.1")
    assert answer.status_code == 302
    return client


def key_of(client: Client) -> str:
    key: str = client.session.session_key or ""
    return key


def is_inside(client: Client) -> bool:
    return client.get(INSIDE).status_code == 200


def test_what_is_told_of_a_session(api: RestClient, ada: User) -> None:
    with time_machine.travel("2026-03-01T00:00:00Z", tick=False):
        client = browser(ada)
        answer = api.get(sessions_of(ada))
        (told,) = data_of(answer)
    assert told == {
        "id": told["id"], "userId": ada.external_apis_account.pk, "userAgent": "Browser/1.0",
        "createdAt": "2026-03-01T00:00:00.000Z", "lastSeenAt": "2026-03-01T00:00:00.000Z",
        "expiresAt": "2026-03-15T00:00:00.000Z",
    }  # fmt: skip
    assert told["id"].startswith("ses_")
    assert key_of(client) not in answer.content.decode()
    assert {field.name for field in UserSession._meta.get_fields()} == {
        "id", "account", "tenant", "session_key", "user_agent", "created_at", "last_seen_at", "expires_at",
    }, "no address is kept"  # fmt: skip


def test_a_revoked_browser_is_out_at_its_next_request_and_the_other_stays(api: RestClient, ada: User) -> None:
    first, second = browser(ada, "First"), browser(ada, "Second")
    assert is_inside(first)
    assert is_inside(second)
    told = {item["userAgent"]: item["id"] for item in data_of(api.get(sessions_of(ada)))}
    answer = data_of(api.send("delete", f"{sessions_of(ada)}/{told['First']}"))
    assert answer == {"id": told["First"], "deleted": True}
    assert not is_inside(first)
    assert is_inside(second)
    assert [item["userAgent"] for item in data_of(api.get(sessions_of(ada)))] == ["Second"]
    assert failure_of(api.send("delete", f"{sessions_of(ada)}/{told['First']}")) == (404, "NOT_FOUND")
    event = AuditEvent.objects.get(action="user.session_ended")
    assert event.changes == {"session": [told["First"], None]}


def test_a_session_is_ended_through_its_own_user_alone(api: RestClient, ada: User) -> None:
    bob = make_user("bob")
    client = browser(ada)
    (told,) = data_of(api.get(sessions_of(ada)))
    for session in (told["id"], key_of(client), "ses_%F0%9F%92%A9"):
        assert failure_of(api.send("delete", f"{sessions_of(bob)}/{session}")) == (404, "NOT_FOUND")
    assert failure_of(api.send("delete", f"{sessions_of(ada)}/{key_of(client)}")) == (404, "NOT_FOUND")
    assert is_inside(client)


def test_a_changed_password_changes_the_key_and_not_the_session(api: RestClient, ada: User) -> None:
    client = browser(ada)
    key, (before,) = key_of(client), data_of(api.get(sessions_of(ada)))
    new = "another password of the tests"
    answer = client.post(INSIDE, {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert answer.status_code == 302
    assert key_of(client) != key
    (after,) = data_of(api.get(sessions_of(ada)))
    assert after["id"] == before["id"]
    data_of(api.send("delete", f"{sessions_of(ada)}/{after['id']}"))
    assert not is_inside(client)


def test_who_logs_out_or_whose_time_is_over_is_not_listed(api: RestClient, ada: User) -> None:
    browser(ada).post("/admin/logout/")
    assert not UserSession.objects.exists()
    with time_machine.travel("2026-03-01T00:00:00Z", tick=False):
        browser(ada)
    with time_machine.travel("2026-03-20T00:00:00Z", tick=False):
        assert data_of(api.get(sessions_of(ada))) == []
        browser(ada, "Later")
        assert [row.user_agent for row in UserSession.objects.all()] == ["Later"], "the old one is no longer stored"


def test_a_session_that_django_has_lost_is_not_listed(api: RestClient, ada: User) -> None:
    browser(ada)
    Session.objects.all().delete()
    assert data_of(api.get(sessions_of(ada))) == []


def test_a_session_from_before_is_listed_from_its_next_request_on(api: RestClient, ada: User, settings: Any) -> None:
    settings.BACKOFFICE_ENABLED = False
    client = browser(ada, "Early bird")
    assert not UserSession.objects.exists()
    settings.BACKOFFICE_ENABLED = True
    again = Client(headers={"User-Agent": "Early bird"})  # with the middleware of the new start
    again.cookies = client.cookies
    assert is_inside(again)
    (told,) = data_of(api.get(sessions_of(ada)))
    assert told["userAgent"] == "Early bird"
    data_of(api.send("delete", f"{sessions_of(ada)}/{told['id']}"))
    assert not is_inside(client)


def test_a_short_session_that_is_used_stays_while_others_log_in(ada: User, settings: Any) -> None:
    """Each request puts the end off, and not each is noted."""
    settings.SESSION_COOKIE_AGE, settings.SESSION_SAVE_EVERY_REQUEST = 300, True
    bob = make_user("bob")
    with time_machine.travel("2026-03-01T00:00:00Z", tick=False):
        client = browser(ada)
    with time_machine.travel("2026-03-01T00:04:50Z", tick=False):
        assert is_inside(client)
    with time_machine.travel("2026-03-01T00:05:10Z", tick=False):
        browser(bob)  # whose log-in drops the rows that are over
        valkey.client().delete(*valkey.client().scan_iter(f"{valkey.PREFIX}session:*"))  # five minutes have passed
        assert is_inside(client)
        assert is_inside(client)


def test_sessions_of_a_store_that_tells_no_ends_are_listed_while_they_live(
    api: RestClient, ada: User, settings: Any
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "sessions"}}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.SESSION_COOKIE_AGE, settings.SESSION_SAVE_EVERY_REQUEST = 600, True
    with time_machine.travel("2026-03-01T00:00:00Z", tick=False):
        client = browser(ada)
        (told,) = data_of(api.get(sessions_of(ada)))
        assert told["expiresAt"] == "2026-03-01T00:10:00.000Z"
    with time_machine.travel("2026-03-01T00:04:50Z", tick=False):
        assert is_inside(client)  # which puts the end off, and is not noted yet
    with time_machine.travel("2026-03-01T00:11:40Z", tick=False):
        (told,) = data_of(api.get(sessions_of(ada)))
        assert told["expiresAt"] == "2026-03-01T00:11:40.000Z", "no earlier than it is now"
        client.session.flush()
        assert data_of(api.get(sessions_of(ada))) == []


def is_over_under_another_key(client: Client, **marks: str) -> bool:
    """Give the browser another key of its session, and these marks in it; tell whether that is ended when used."""
    session = client.session
    session.update(marks)
    session.cycle_key()
    session.save()
    client.cookies["external_apis_session"] = session.session_key or ""
    client.get(INSIDE)
    return not is_inside(client) and not Session.objects.filter(session_key=session.session_key).exists()


def test_a_session_with_the_mark_of_another_users_row_is_over(ada: User) -> None:
    client, other = browser(ada), browser(make_user("bob"))
    row = UserSession.objects.filter(session_key=key_of(other))
    before = row.values().get()
    assert is_over_under_another_key(client, backoffice_session=before["id"])
    assert row.values().get() == before
    assert is_inside(other)


def test_a_session_that_was_ended_while_its_key_changed_is_over(ada: User) -> None:
    """As in a race: the row is gone, and the browser has come by a key that nobody knows."""
    client = browser(ada)
    UserSession.objects.all().delete()
    assert is_over_under_another_key(client)


def test_a_page_writes_nothing_more_within_five_minutes(ada: User) -> None:
    client = browser(ada)
    client.get(INSIDE)
    with CaptureQueriesContext(connection) as queries:
        client.get(INSIDE)
    assert not [query for query in queries if "backoffice_usersession" in query["sql"]]


def test_the_last_time_is_noted(api: RestClient, ada: User) -> None:
    with time_machine.travel("2026-03-01T00:00:00Z", tick=False):
        client = browser(ada)
    for name in valkey.client().scan_iter(f"{valkey.PREFIX}session:*", count=1_000):
        valkey.client().delete(name)  # five minutes later
    with time_machine.travel("2026-03-02T00:00:00Z", tick=False):
        client.get(INSIDE)
        (told,) = data_of(api.get(sessions_of(ada)))
    assert (told["createdAt"][:10], told["lastSeenAt"][:10]) == ("2026-03-01", "2026-03-02")


@pytest.mark.parametrize("name", ["x" * 5_000, "tab\tand\x1b[31mcolour", ""])
def test_a_browser_may_call_itself_anything(api: RestClient, ada: User, name: str) -> None:
    browser(ada, name)
    (told,) = data_of(api.get(sessions_of(ada)))
    assert len(told["userAgent"]) <= 200
    assert told["userAgent"].isprintable()


def test_as_many_queries_for_thirty_sessions_as_for_one(api: RestClient, ada: User) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            data_of(api.get(sessions_of(ada), {"perPage": 100}))
        return len(queries)

    Client().force_login(ada)
    count()  # what a process learns once
    few = count()
    for _ in range(29):
        Client().force_login(ada)
    assert len(data_of(api.get(sessions_of(ada), {"perPage": 100}))) == 30
    assert count() == few
