"""Connect links: made over REST, answered by somebody without an account, used once, told to allowed sites alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.conf import settings as configured
from django.core.signing import Signer
from django.test import Client
from django.utils import timezone

from connections.api import connect_page
from connections.connect_links import invitations
from connections.connect_links.invitations import LONGEST_SECONDS
from connections.connect_links.origins import allowed_origin
from connections.models import ConnectLink, ExternalApiConnection
from connections.sandbox import credentials
from external_apis import valkey
from external_apis.models import AuditEvent, ExternalApi, Tenant
from tests.factories import MANAGER, make_connection, make_partner, make_provider, make_tenant, make_user
from tests.rest import PROVIDERS, error_of, signed_in, with_key
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db

APP = "https://app.example"
KEY = "a-key-that-somebody-pasted-0001"


@pytest.fixture(autouse=True)
def _allowed(settings: Any, sandbox: Sandbox) -> None:
    settings.CONNECT_ALLOWED_ORIGINS = (APP, "http://localhost:3000")
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]


@pytest.fixture(autouse=True)
def _fresh_limits() -> Iterator[None]:
    yield
    for key in valkey.client().scan_iter("*connect-page*"):
        valkey.client().delete(key)


@pytest.fixture
def api(sandbox: Sandbox) -> ExternalApi:
    """A provider with a key of the header kind, which a test path checks."""
    config = {
        "base_url": f"{sandbox.url}/auth/api-key-header",
        "auth_type": "api_key",
        "api_key": {"header_name": credentials.API_KEY_HEADER},
        "test_path": "/me",
    }
    return make_provider(environment="development", api_config=config)


def links_of(api: ExternalApi) -> str:
    return f"{PROVIDERS}/{api.pk}/connect-links"


def make(api: ExternalApi, **body: Any) -> dict[str, Any]:
    response = with_key().send("post", links_of(api), body)
    assert response.status_code == 201, response.content
    return dict(response.json())


def path_of(made: dict[str, Any]) -> str:
    return urlsplit(str(made["url"])).path


def status_of(api: ExternalApi, made: dict[str, Any]) -> dict[str, Any]:
    return dict(with_key().get(f"{links_of(api)}/{made['id']}").json())


def text_of(response: Any) -> str:
    return str(response.content.decode())


# --- made ---------------------------------------------------------------------------------------------------------


def test_a_link_is_made_and_watched(api: ExternalApi) -> None:
    tenant = make_tenant()
    response = with_key().send("post", links_of(api), {"sales_channel_id": tenant.pk, "connection_name": "Theirs"})
    made = response.json()
    assert set(made) == {"id", "url", "expires_at"}
    assert made["url"].startswith(f"{configured.PUBLIC_BASE_URL}/connect/{made['id']}.")
    assert response["Location"] == f"{links_of(api)}/{made['id']}"
    shown = status_of(api, made)
    assert (shown["status"], shown["connection_id"], shown["sales_channel_id"]) == ("pending", None, tenant.pk)
    assert "url" not in shown
    link = ConnectLink.objects.get()
    assert timedelta(seconds=595) < link.expires_at - timezone.now() <= timedelta(seconds=600)
    assert link.created_by == "key:ADMIN_API_KEY"
    event = AuditEvent.objects.get(action="connect_link.created")
    assert (event.object_id, event.tenant_id) == (link.pk, tenant.pk)
    signature = made["url"].rpartition(".")[2]
    assert signature not in str(event.changes)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"expires_in_seconds": LONGEST_SECONDS + 1}, "expires_in_seconds"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"expires_in_seconds": "600"}, "expires_in_seconds"),
        ({"return_url": "https://evil.example/"}, "return_url"),
        ({"origin": "https://evil.example"}, "origin"),
        ({"origin": f"{APP}/"}, "origin"),
        ({"origin": "*"}, "origin"),
        ({"origin": "null"}, "origin"),
        ({"unknown": 1}, "unknown"),
        ({"connection_name": ""}, "connection_name"),
    ],
)
def test_a_body_that_cannot_be_names_its_field(api: ExternalApi, body: dict[str, Any], path: str) -> None:
    response = with_key().send("post", links_of(api), body)
    assert error_of(response) == (400, "VALIDATION_ERROR")
    assert response.json()["error"]["details"]["errors"][0]["path"] == path
    assert not ConnectLink.objects.exists()


def test_rows_that_are_not_there_or_not_the_askers(api: ExternalApi) -> None:
    ours, theirs = make_tenant(), make_tenant()
    manager = signed_in(make_user(tenant=ours, permissions=MANAGER))
    connection = make_connection(api, tenant=theirs, credentials={"api_key": KEY})
    partner = make_partner(theirs)
    for body in (
        {"sales_channel_id": theirs.pk},
        {"connection_id": connection.pk},
        {"partner_id": partner.pk},
        {"user_id": "user_nobody"},
    ):
        assert error_of(manager.send("post", links_of(api), body)) == (404, "NOT_FOUND")
    made = make(api, sales_channel_id=theirs.pk)
    assert error_of(manager.get(f"{links_of(api)}/{made['id']}")) == (404, "NOT_FOUND")
    own = manager.send("post", links_of(api), {}).json()
    assert ConnectLink.objects.get(pk=own["id"]).tenant == ours
    assert error_of(with_key().get(f"{links_of(make_provider())}/{made['id']}")) == (404, "NOT_FOUND")
    both = {"connection_id": connection.pk, "sales_channel_id": theirs.pk}
    assert error_of(with_key().send("post", links_of(api), both)) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("missing", ["add", "change"])
def test_whoever_makes_a_link_may_add_and_change_connections(api: ExternalApi, missing: str) -> None:
    rest = [name for name in MANAGER if name != f"connections.{missing}_externalapiconnection"]
    assert error_of(signed_in(make_user(permissions=rest)).send("post", links_of(api), {})) == (403, "FORBIDDEN")
    assert ConnectLink.objects.count() == 0


def test_links_that_ended_long_ago_are_forgotten_when_a_new_one_is_made(
    api: ExternalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "_FORGOTTEN_AT_ONCE", 2)
    old, older, oldest, recent = (make(api)["id"] for _ in range(4))
    for link, days in ((old, 91), (older, 92), (oldest, 93), (recent, 89)):
        ConnectLink.objects.filter(pk=link).update(expires_at=timezone.now() - timedelta(days=days))
    newest = make(api)["id"]
    assert set(ConnectLink.objects.values_list("pk", flat=True)) == {old, recent, newest}


def test_a_provider_that_asks_nothing_of_anybody(sandbox: Sandbox) -> None:
    open_api = make_provider(environment="development", api_config={"base_url": sandbox.url, "auth_type": "none"})
    assert error_of(with_key().send("post", links_of(open_api), {})) == (400, "VALIDATION_ERROR")


# --- answered with a key ------------------------------------------------------------------------------------------


def test_a_key_is_tried_stored_and_the_link_is_used_up(api: ExternalApi) -> None:
    tenant, partner = make_tenant(slug="acme"), make_partner()
    made = make(api, sales_channel_id=tenant.pk, partner_id=partner.pk, connection_name="Theirs")
    browser = Client()
    page = browser.get(path_of(made))
    assert page.status_code == 200
    assert '<input id="api_key" name="api_key" type="password"' in text_of(page)
    assert "<script" not in text_of(page)
    assert partner.name in text_of(page)
    done = browser.post(path_of(made), {"api_key": f"  {credentials.API_KEY}\n"}, follow=True)
    assert "Connected" in text_of(done)
    row = ExternalApiConnection.objects.get()
    assert (row.connection_name, row.tenant, row.partner) == ("Theirs", tenant, partner)
    assert row.credential.secrets["api_key"] == credentials.API_KEY
    assert row.created_by == f"link:{made['id']}"
    shown = status_of(api, made)
    assert (shown["status"], shown["connection_id"]) == ("connected", row.pk)
    assert AuditEvent.objects.filter(action="connect_link.used", actor=f"link:{made['id']}").count() == 1
    for again in (browser.get(path_of(made)), browser.post(path_of(made), {"api_key": credentials.API_KEY})):
        assert again.status_code == 410
        assert "used already" in text_of(again)
    assert ExternalApiConnection.objects.count() == 1


def test_a_key_that_does_not_work_stores_nothing_and_is_not_echoed(api: ExternalApi) -> None:
    made = make(api)
    page = Client().post(path_of(made), {"api_key": KEY})
    assert page.status_code == 400
    assert "did not accept this" in text_of(page)
    assert "status 401" in text_of(page)
    assert KEY not in text_of(page)
    assert not ExternalApiConnection.objects.exists()
    shown = status_of(api, made)
    assert shown["status"] == "pending"
    assert "did not accept" in shown["error"]
    assert KEY not in str(shown)
    Client().post(path_of(made), {"api_key": credentials.API_KEY})
    assert (status_of(api, made)["status"], status_of(api, made)["error"]) == ("connected", None)


@pytest.mark.parametrize(
    "posted", [{}, {"api_key": ""}, {"api_key": " \n"}, {"api_key": "x" * 20_001}, {"api_key": "\0"}, {"other": "x"}]
)
def test_a_form_that_cannot_be(api: ExternalApi, posted: dict[str, str]) -> None:
    page = Client().post(path_of(make(api)), posted)
    assert page.status_code == 400
    assert not ExternalApiConnection.objects.exists()


def test_a_provider_that_cannot_be_reached(settings: Any) -> None:
    config = {"base_url": "http://127.0.0.1:9/x", "auth_type": "bearer", "test_path": "/me"}
    dead = make_provider(environment="development", api_config=config)
    for allowance in ([], ["127.0.0.1:9"]):
        settings.EGRESS_ALLOW = allowance
        page = Client().post(path_of(make(dead)), {"access_token": KEY})
        assert page.status_code == 400
        assert "no answer that could be used" in text_of(page)
    assert not ExternalApiConnection.objects.exists()


def test_a_connection_gets_new_keys_and_stays_itself(api: ExternalApi) -> None:
    row = make_connection(api, tenant=make_tenant(), credentials={"api_key": KEY}, provider_data={"kept": "yes"})
    made = make(api, connection_id=row.pk)
    assert "again" in text_of(Client().get(path_of(made)))
    Client().post(path_of(made), {"api_key": credentials.API_KEY})
    row = ExternalApiConnection.objects.get(pk=row.pk)
    assert row.credential.secrets["api_key"] == credentials.API_KEY
    assert row.provider_data == {"kept": "yes"}
    assert status_of(api, made)["connection_id"] == row.pk


def test_basic_asks_for_both_and_hmac_for_its_secret(sandbox: Sandbox) -> None:
    common = {"test_path": "/me"}
    basic = make_provider(
        environment="development",
        api_config={"base_url": f"{sandbox.url}/auth/basic", "auth_type": "basic", **common},
    )
    made = make(basic)
    posted = {"username": credentials.BASIC_USERNAME, "password": credentials.BASIC_PASSWORD}
    assert Client().post(path_of(made), {**posted, "password": ""}).status_code == 400
    assert Client().post(path_of(made), posted).status_code == 302
    block = {
        "signature_header": credentials.SIGNATURE_HEADER,
        "timestamp_header": credentials.TIMESTAMP_HEADER,
    }
    hmac = make_provider(
        environment="development",
        api_config={"base_url": f"{sandbox.url}/auth/hmac", "auth_type": "hmac", "hmac": block, **common},
    )
    made = make(hmac)
    assert "Signing secret" in text_of(Client().get(path_of(made)))
    assert Client().post(path_of(made), {"hmac_secret": credentials.HMAC_SECRET}).status_code == 302
    assert ExternalApiConnection.objects.count() == 2


def test_a_machines_credentials_have_to_fetch_a_token(sandbox: Sandbox) -> None:
    sandbox.register("linked-machine", client_secret="the right secret")
    machine = make_provider(
        environment="development",
        api_config={
            "base_url": f"{sandbox.url}/auth/client-credentials",
            "auth_type": "client_credentials",
            "client_credentials": {"token_url": f"{sandbox.url}/oauth/token"},
            "test_path": "/me",
        },
    )
    made = make(machine)
    wrong = Client().post(path_of(made), {"client_id": "linked-machine", "client_secret": "a wrong secret"})
    assert wrong.status_code == 400
    assert "gave no token" in text_of(wrong)
    assert "a wrong secret" not in text_of(wrong)
    assert not ExternalApiConnection.objects.exists()
    Client().post(path_of(made), {"client_id": "linked-machine", "client_secret": "the right secret"})
    row = ExternalApiConnection.objects.get()
    assert row.credential.secrets["access_token"].startswith(credentials.ISSUED_PREFIX)
    assert row.grant_events.get().kind


def test_parts_of_the_url_are_asked_for(sandbox: Sandbox) -> None:
    api = make_provider(
        environment="development",
        api_config={
            "base_url": sandbox.url + "/echo/{shop}",
            "auth_type": "bearer",
            "url_variables": {"shop": {"pattern": "[a-z]+"}},
            "test_path": "/me",
        },
    )
    made = make(api)
    assert 'name="shop" type="text"' in text_of(Client().get(path_of(made)))
    page = Client().post(path_of(made), {"shop": "../evil", "access_token": KEY})
    assert page.status_code == 400
    assert "../evil" not in text_of(page)
    assert Client().post(path_of(made), {"shop": "acme", "access_token": KEY}).status_code == 302
    assert ExternalApiConnection.objects.get().provider_data == {"shop": "acme"}


# --- links that cannot be used ------------------------------------------------------------------------------------


def test_expired_links_say_so(api: ExternalApi) -> None:
    made = make(api, expires_in_seconds=60)
    with time_machine.travel(timezone.now() + timedelta(seconds=61), tick=False):
        for page in (Client().get(path_of(made)), Client().post(path_of(made), {"api_key": credentials.API_KEY})):
            assert page.status_code == 410
            assert "has expired" in text_of(page)
        assert status_of(api, made)["status"] == "expired"
    assert not ExternalApiConnection.objects.exists()


def test_tampered_and_foreign_tokens(api: ExternalApi) -> None:
    made, other = make(api), make(api)
    token, foreign = path_of(made).rpartition("/")[2], path_of(other).rpartition("/")[2]
    link_id, _, signature = token.partition(".")
    bad = [
        f"{link_id}.{signature[:-1]}",
        f"{link_id}.{foreign.partition('.')[2]}",
        link_id,
        f"{link_id}.",
        "x" * 5_000,
        Signer(salt="another", sep=".").sign(link_id),
        Signer(salt="connections.connect_link", sep=".").sign("lnk_gone"),
    ]
    for attempt in bad:
        page = Client().get(f"/connect/{attempt}")
        assert page.status_code == 410, attempt
        assert "cannot be used" in text_of(page)
        assert Client().get(f"/connect/done/{attempt}").status_code == 410
    assert Client().get("/connect/%00").status_code == 400


def test_no_log_holds_a_link_that_works(api: ExternalApi, capfd: pytest.CaptureFixture[str]) -> None:
    """Django logs the path of what it answers with an error; a wrong key is one, and leaves the link usable."""
    path = path_of(make(api))
    assert Client().post(path, {"api_key": KEY}).status_code == 400
    errors = capfd.readouterr().err
    assert "Bad Request: /connect/[token]" in errors
    assert path.rpartition(".")[2] not in errors
    assert KEY not in errors


def test_a_provider_or_connection_that_is_gone(api: ExternalApi) -> None:
    row = make_connection(api, credentials={"api_key": KEY})
    made = make(api, connection_id=row.pk)
    ExternalApiConnection.objects.filter(pk=row.pk).update(deleted_at=timezone.now())
    assert Client().get(path_of(made)).status_code == 410


def test_what_is_switched_off_takes_no_account(api: ExternalApi) -> None:
    tenant = make_tenant()
    made = make(api, sales_channel_id=tenant.pk)
    Tenant.objects.filter(pk=tenant.pk).update(is_active=False)
    assert Client().post(path_of(made), {"api_key": credentials.API_KEY}).status_code == 410
    Tenant.objects.filter(pk=tenant.pk).update(is_active=True)
    ExternalApi.objects.filter(pk=api.pk).update(status="inactive")
    assert "switched off" in text_of(Client().get(path_of(made)))
    assert not ExternalApiConnection.objects.exists()


def test_each_address_has_so_many_requests_a_minute(api: ExternalApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect_page, "REQUESTS_A_MINUTE", 3)
    path = path_of(make(api))
    statuses = [Client().get(path, REMOTE_ADDR="192.0.2.7").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert Client().get(path, REMOTE_ADDR="192.0.2.8").status_code == 200


# --- reported back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (f"{APP}/back?x=1", APP),
        ("HTTPS://APP.example/back", APP),
        (f"{APP}:443/back", APP),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://localhost/", None),
        ("http://app.example/", None),
        (f"{APP}.evil.example/", None),
        (f"{APP}@evil.example/", None),
        (f"{APP}:443@evil.example/", None),
        (f"{APP}:8443/", None),
        (f"{APP}\\@evil.example/", None),
        ("https:\\\\app.example/", None),
        ("https:/app.example/", None),
        ("https:app.example/", None),
        ("//app.example/", None),
        ("/back", None),
        ("javascript:alert(1)//app.example", None),
        ("data:text/html,x", None),
        (f"{APP}%2eevil.example/", None),
        ("https://app%2eexample/", None),
        (f"\t{APP}/", None),
        (f"{APP}/\r\nX: y", None),
        (f"{APP}/ä", None),
        ("https://аpp.example/", None),  # noqa: RUF001 (a Cyrillic letter)
        ("https://app.example。/", None),
        ("https://app.example./", None),
        ("https://evil.example/?https://app.example/", None),
        ("https://evil.example#@app.example/", None),
        ("https://[app.example]/", None),
        ("https://app.example:99999/", None),
        ("https://app.example:abc/", None),
        ("ftp://app.example/", None),
        ("", None),
    ],
)
def test_which_urls_users_are_sent_to(url: str, origin: str | None) -> None:
    assert allowed_origin(url) == origin


def test_back_by_redirect_with_the_result(api: ExternalApi) -> None:
    made = make(api, return_url=f"{APP}/back?step=2&status=spoofed#part")
    answer = Client().post(path_of(made), {"api_key": credentials.API_KEY})
    assert answer.status_code == 302
    parts = urlsplit(answer["Location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{APP}/back"
    row = ExternalApiConnection.objects.get()
    assert parse_qs(parts.query) == {"step": ["2"], "connection_id": [row.pk], "status": ["connected"]}


def test_an_origin_that_is_not_allowed_any_more_is_not_told(api: ExternalApi, settings: Any) -> None:
    made = make(api, return_url=f"{APP}/back", origin=APP)
    settings.CONNECT_ALLOWED_ORIGINS = ()
    done = Client().post(path_of(made), {"api_key": credentials.API_KEY}, follow=True)
    assert "Connected" in text_of(done)
    assert APP not in text_of(done)
    assert APP not in str(done.headers)
    made = make(api)
    ConnectLink.objects.filter(pk=made["id"]).update(return_url="https://evil.example/", origin="")
    done = Client().post(path_of(made), {"api_key": credentials.API_KEY}, follow=True)
    assert done.redirect_chain[-1][0].startswith("/connect/done/")
    assert "evil.example" not in text_of(done)


def test_the_embedding_page_is_told_and_nobody_else_may_frame(api: ExternalApi) -> None:
    made = make(api, origin=APP)
    browser = Client()
    page = browser.get(path_of(made))
    assert f"frame-ancestors {APP}" in page["Content-Security-Policy"]
    assert "X-Frame-Options" not in page
    assert page["Cross-Origin-Opener-Policy"] == "unsafe-none"
    done = browser.post(path_of(made), {"api_key": credentials.API_KEY}, follow=True)
    row = ExternalApiConnection.objects.get()
    for part in (f'data-origin="{APP}"', f'data-connection="{row.pk}"', 'data-status="connected"', "connect.js"):
        assert part in text_of(done)
    assert KEY not in text_of(done)


def test_headers_keep_the_link_to_itself(api: ExternalApi) -> None:
    page = Client().get(path_of(make(api)))
    assert page["Referrer-Policy"] == "no-referrer"
    assert page["Cache-Control"] == "no-store"
    assert page["Cross-Origin-Opener-Policy"] == "same-origin"
    policy = page["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script|\son\w+=|style=", text_of(page))


def test_hostile_names_are_text(sandbox: Sandbox) -> None:
    name = "<script>alert(1)</script>"
    config = {"base_url": f"{sandbox.url}/auth/bearer", "auth_type": "bearer"}
    api = make_provider(environment="development", api_config=config)
    ExternalApi.objects.filter(pk=api.pk).update(name=name)
    page = text_of(Client().get(path_of(make(api))))
    assert name not in page
    assert "&lt;script&gt;" in page
