"""The contact form, as strangers, programs and attackers use it, and what came by it over REST."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from external_apis import valkey
from external_apis.backoffice.contact_messages import delete_message
from external_apis.backoffice.models import ContactMessage
from external_apis.backoffice.pages.contact import TRAP
from external_apis.errors import NotFound
from external_apis.models import AuditEvent
from tests.content import make_message
from tests.envelope import EXTERNAL, client_of, data_of, failure_of
from tests.factories import make_key, make_tenant
from tests.rest import with_key

pytestmark = pytest.mark.django_db

MESSAGES = f"{EXTERNAL}/contact-messages"
GOOD = {"name": "Ann", "email": "ann@example.com", "subject": "Hello", "message": "How are you?\nBest, Ann"}


@pytest.fixture
def stranger() -> Client:
    return Client(enforce_csrf_checks=True)


def post(client: Client, path: str = "/contact", **fields: Any) -> Any:
    """Open the form and send it, as a browser does."""
    page = client.get(path).content.decode()
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    return client.post(path, {**GOOD, "csrfmiddlewaretoken": token, **fields})


def test_a_stranger_writes(stranger: Client) -> None:
    answer = post(stranger)
    assert (answer.status_code, answer["Location"]) == (302, "/contact?sent")
    assert "Thank you" in stranger.get(answer["Location"]).content.decode()
    row = ContactMessage.objects.get()
    assert {name: getattr(row, name) for name in GOOD} == {**GOOD, "message": "How are you?\nBest, Ann"}
    assert row.tenant is None


def test_the_address_is_stored_nowhere(stranger: Client) -> None:
    post(stranger)
    event = AuditEvent.objects.get(action="contact_message.received")
    assert (event.address, event.changes) == (None, {})
    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM backoffice_contactmessage AS t")
        assert "127.0.0.1" not in str(cursor.fetchall())
    limits = list(valkey.client().scan_iter(f"{valkey.PREFIX}limit:*contact*"))
    assert len(limits) == 2, "that of the address, and that of all"
    assert b"127.0.0.1" not in b"".join(limits)


def test_a_form_of_a_tenant(stranger: Client) -> None:
    tenant = make_tenant("shop")
    assert post(stranger, "/contact/shop")["Location"] == "/contact/shop?sent"
    assert ContactMessage.objects.get().tenant == tenant
    tenant.is_active = False
    tenant.save()
    for path in ("/contact/shop", "/contact/elsewhere"):
        assert stranger.get(path).status_code == 404


def test_without_the_token_of_the_form_nothing_is_taken(stranger: Client) -> None:
    assert stranger.post("/contact", GOOD).status_code == 403
    assert post(stranger, csrfmiddlewaretoken="x" * 64).status_code == 403
    assert not ContactMessage.objects.exists()


def test_a_program_that_fills_in_everything_believes_that_it_was_heard(stranger: Client) -> None:
    heard, unheard = post(stranger), post(stranger, **{TRAP: "https://spam.example"})
    assert (heard.status_code, heard["Location"]) == (unheard.status_code, unheard["Location"])
    assert ContactMessage.objects.count() == 1
    page = stranger.get("/contact").content.decode()
    assert re.search(rf'(?s)<div class="elsewhere" aria-hidden="true">.*?name="{TRAP}" tabindex="-1"', page)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("name", "", "fill this in"),
        ("name", "   ", "fill this in"),
        ("name", "x" * 101, "longer than 100"),
        ("name", "two\nlines", "one line"),
        ("name", "nul\0", "NUL"),
        ("name", "ann\u202egpj.exe", "one line"),
        ("name", "ann\u2066x", "one line"),
        ("name", "two\u2028lines", "one line"),
        ("email", "", "fill this in"),
        ("email", "ann", "not an email address"),
        ("email", "ann@example.com\nBcc: all@example.com", "one line"),
        ("email", '"\x1b[31m"@example.com', "one line"),
        ("email", f"{'a' * 250}@example.com", "longer than 254"),
        ("subject", "x" * 201, "longer than 200"),
        ("subject", "Hello\r\nBcc: all@example.com", "one line"),
        ("subject", "bell\x07", "one line"),
        ("subject", "next\x85line", "one line"),
        ("message", "", "fill this in"),
        ("message", " \r\n", "fill this in"),
        ("message", "x" * 5001, "longer than 5000"),
        ("message", "\ud800".encode("utf-8", "surrogatepass"), ""),
    ],
)
def test_bad_input_is_refused_and_named(stranger: Client, field: str, value: Any, told: str) -> None:
    answer = post(stranger, **{field: value})
    if isinstance(value, bytes):  # Django has replaced what is no UTF-8
        assert answer.status_code == 302
        return
    page = answer.content.decode()
    assert answer.status_code == 400
    assert re.search(rf'id="wrong-{field}">[^<]*{told}', page)
    assert not ContactMessage.objects.exists()


@pytest.mark.parametrize(
    "line",
    [
        "\u0645\u06cc\u200c\u062e",
        "Prix\u00a0: 5\u00a0€",
        "👩\u200d👩\u200d👧",
        "soft\u00ad",
        "क्\u200dष",
        "\ue000",
    ],
)
def test_names_and_subjects_of_all_languages(stranger: Client, line: str) -> None:
    assert post(stranger, name=line, subject=line).status_code == 302
    row = ContactMessage.objects.get()
    assert (row.name, row.subject) == (line, line)


def test_a_line_end_counts_once(stranger: Client) -> None:
    """As in a browser, whose ``maxlength`` lets 5000 characters in and which sends each line end as two."""
    text = "line\n" * 999 + "lines"
    assert post(stranger, message=text.replace("\n", "\r\n")).status_code == 302
    assert ContactMessage.objects.get().message == text
    assert post(stranger, message=f"{text}x".replace("\n", "\r\n")).status_code == 400


def test_what_was_typed_comes_back_as_text(stranger: Client) -> None:
    hostile = '"><script>alert(1)</script>'
    page = post(
        stranger, name=hostile, email=hostile, subject=hostile, message=f"</textarea>{hostile}"
    ).content.decode()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4
    answer = stranger.get("/contact")
    assert "script-src" not in answer["Content-Security-Policy"]
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "form-action 'self'" in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "no-store"


def test_one_address_writes_so_often(stranger: Client) -> None:
    statuses = [post(stranger).status_code for _ in range(12)]
    assert statuses.count(302) == ContactMessage.objects.count()
    assert statuses == [302] * 10 + [429] * 2
    answer = post(stranger)
    assert int(answer["Retry-After"]) >= 1
    assert "How are you?" in answer.content.decode(), "what was typed is not lost"


def test_bodies_that_are_no_form(stranger: Client) -> None:
    token = {"HTTP_X_CSRFTOKEN": re.findall(r'value="(\w{64})"', stranger.get("/contact").content.decode())[0]}
    for content_type in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
        answer = stranger.post("/contact", b"\xff{", content_type=content_type, **token)
        assert answer.status_code == 400
    assert stranger.put("/contact").status_code in (403, 405)
    assert not ContactMessage.objects.exists()


# --- REST -----------------------------------------------------------------------------------------------------------


def test_the_list_and_its_search() -> None:
    # Ids of one millisecond have no order.
    first, second = sorted((make_message(), make_message()), key=lambda row: row.pk)
    ContactMessage.objects.filter(pk=first.pk).update(name="Bob", subject="Prices")
    ContactMessage.objects.filter(pk=second.pk).update(email="carol@example.com")
    client = with_key()
    items = data_of(client.get(MESSAGES))
    assert [item["id"] for item in items] == [second.pk, first.pk]
    assert set(items[0]) == {"id", "name", "email", "subject", "message", "tenantId", "createdAt"}
    for search, found in (
        ("PRICE", [first.pk]),
        ("carol@", [second.pk]),
        ("hello", [second.pk, first.pk]),
        ("x y", []),
    ):
        assert [item["id"] for item in data_of(client.get(f"{MESSAGES}?search={search}"))] == found


def test_the_number_of_queries_does_not_follow_the_rows() -> None:
    client = client_of(make_key(scopes=["content:read"]).token)
    client.get(MESSAGES)
    counts = []
    for rows in (1, 30):
        while ContactMessage.objects.count() < rows:
            make_message(make_tenant())
        with CaptureQueriesContext(connection) as captured:
            data_of(client.get(f"{MESSAGES}?perPage=30"))
        counts.append(len(captured))
    assert counts == [2, 2]


def test_deleting() -> None:
    row = make_message(message="delete me")
    reader, writer = (client_of(make_key(scopes=[f"content:{kind}"]).token) for kind in ("read", "write"))
    assert failure_of(reader.send("delete", f"{MESSAGES}/{row.pk}")) == (403, "FORBIDDEN")
    assert data_of(writer.send("delete", f"{MESSAGES}/{row.pk}")) == {"id": row.pk, "deleted": True}
    assert failure_of(writer.send("delete", f"{MESSAGES}/{row.pk}")) == (404, "NOT_FOUND")
    event = AuditEvent.objects.get(action="contact_message.deleted")
    assert "delete me" not in str(event.changes)


def test_of_two_who_delete_a_message_one_has_done_it() -> None:
    row = make_message()
    again = ContactMessage.objects.get()
    delete_message(row)
    with pytest.raises(NotFound):
        delete_message(again)
    assert AuditEvent.objects.filter(action="contact_message.deleted").count() == 1


def test_a_tenant_and_a_test_key() -> None:
    home = make_tenant()
    mine, other, ours = make_message(home), make_message(make_tenant()), make_message()
    client = client_of(make_key(tenant=home).token)
    assert [item["id"] for item in data_of(client.get(MESSAGES))] == [mine.pk]
    for row in (other, ours):
        assert failure_of(client.send("delete", f"{MESSAGES}/{row.pk}")) == (404, "NOT_FOUND")
    tester = client_of(make_key(mode="test").token)
    assert data_of(tester.get(MESSAGES)) == []
    assert failure_of(tester.send("delete", f"{MESSAGES}/{mine.pk}")) == (403, "FORBIDDEN")
