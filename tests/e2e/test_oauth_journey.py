"""Connecting accounts in a real browser: in the admin, and behind a link by somebody without an account here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from playwright.sync_api import Browser, BrowserContext, Page, expect

from connections.connect_links.invitations import create_link, link_url
from connections.models import ConnectLink, ExternalApiConnection
from connections.sandbox import credentials
from external_apis.models import ExternalApi
from tests.factories import make_provider, make_tenant
from tests.sandbox import Sandbox

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a password of the browser test"
PHONE_WIDTH = 360
EMBEDDING = """<!doctype html><title>Embedding</title><iframe src="{url}" width="400" height="600"></iframe>
<button onclick="window.open('{url}')">Open</button>
<script>addEventListener("message", event => document.title = JSON.stringify([event.origin, event.data]))</script>"""


class Site:
    """Another site on this machine, which answers everything with one page."""

    def __init__(self) -> None:
        site = self
        self.page = "<!doctype html><title>Back</title><p>Back at the app"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = site.page.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_what: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def embed(self, link: ConnectLink) -> None:
        self.page = EMBEDDING.format(url=link_url(link))


def _serve() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


app = pytest.fixture(_serve, name="app")
stranger = pytest.fixture(_serve, name="stranger")


@pytest.fixture(autouse=True)
def _here(settings: Any, live_server: Any, sandbox: Sandbox, app: Site) -> None:
    settings.PUBLIC_BASE_URL = live_server.url
    settings.CONNECT_ALLOWED_ORIGINS = (app.url,)
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]


@pytest.fixture
def signin(sandbox: Sandbox, live_server: Any) -> ExternalApi:
    """A provider whose consent page the user sees."""
    client_id, secret = f"e2e-{urlsplit(live_server.url).port}", "the secret of the browser's client"
    block = {
        "client_id": client_id,
        "client_secret": secret,
        "authorization_url": f"{sandbox.url}/oauth/authorize",
        "token_url": f"{sandbox.url}/oauth/token",
        "revocation_url": f"{sandbox.url}/oauth/revoke",
        "scopes": ["read", "write"],
    }
    config = {"base_url": f"{sandbox.url}/auth/oauth2", "auth_type": "oauth2", "oauth2": block, "test_path": "/me"}
    api = make_provider(slug="harbour", environment="development", api_config=config)
    callback = f"{live_server.url}/admin/external-apis/{api.pk}/oauth/callback"
    sandbox.register(client_id, client_secret=secret, redirect_uris=[callback], consent="ask", access_seconds=3600)
    return api


@pytest.fixture
def keyed(sandbox: Sandbox) -> ExternalApi:
    config = {
        "base_url": f"{sandbox.url}/auth/api-key-header",
        "auth_type": "api_key",
        "api_key": {"header_name": credentials.API_KEY_HEADER},
        "test_path": "/me",
    }
    return make_provider(slug="lighthouse", environment="development", api_config=config)


def open_page(context: BrowserContext) -> Page:
    page = context.new_page()
    page.set_default_timeout(10_000)
    return page


@pytest.fixture
def admin(browser: Browser, live_server: Any) -> Iterator[Page]:
    get_user_model().objects.create_superuser("admin", password=PASSWORD)
    context = browser.new_context(viewport={"width": 1360, "height": 1000}, base_url=live_server.url)
    page = open_page(context)
    page.goto("/admin/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Providers").first).to_be_visible()
    yield page
    context.close()


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A narrow screen without JavaScript, signed in nowhere."""
    context = browser.new_context(viewport={"width": PHONE_WIDTH, "height": 740}, java_script_enabled=False)
    yield open_page(context)
    context.close()


def test_connect_consent_refuse_refresh_and_revoke(admin: Page, signin: ExternalApi, sandbox: Sandbox) -> None:
    admin.goto(f"/admin/external_apis/externalapi/{quote(signin.pk)}/change/")
    expect(admin.get_by_text(f"/admin/external-apis/{signin.pk}/oauth/callback").first).to_be_visible()
    show(admin, "provider")
    admin.get_by_role("link", name=re.compile("Connect$")).click()  # an icon's name stands before it
    show(admin, "consent")
    admin.get_by_label("write").uncheck()
    admin.get_by_role("button", name="Allow").click()
    expect(admin.get_by_role("heading", name="Harbour is connected")).to_be_visible()
    expect(admin.get_by_text("not granted: write")).to_be_visible()
    show(admin, "connected")
    row = ExternalApiConnection.objects.get()

    admin.get_by_role("link", name="Show the connection").click()
    expect(admin.get_by_text("It needs re-consent")).to_contain_text("missing: write")
    admin.get_by_role("link", name="Connect again").click()
    admin.get_by_role("button", name="Allow").click()
    expect(admin.get_by_text("was authorised again")).to_be_visible()
    admin.get_by_role("link", name="Show the connection").click()
    expect(admin.get_by_text("granted: read write")).not_to_contain_text("re-consent")

    admin.get_by_role("link", name="Connect again").click()
    admin.get_by_role("button", name="Deny").click()
    expect(admin.get_by_role("heading", name="was not connected")).to_be_visible()
    expect(admin.get_by_text("access_denied")).to_be_visible()
    show(admin, "denied")

    admin.goto(f"/admin/connections/externalapiconnection/{quote(row.pk)}/change/")
    admin.get_by_role("button", name="Refresh now").click()
    expect(admin.get_by_text("The token is renewed.")).to_be_visible()
    show(admin, "connection")
    assert sandbox.oauth_counts(client_of(signin))["refreshed"] == 1
    token = ExternalApiConnection.objects.get().credential.secrets["access_token"]
    assert token not in admin.content()

    admin.get_by_role("link", name="Revoke").click()
    show(admin, "revoke")
    admin.get_by_role("button", name="Yes, revoke it").click()
    expect(admin.get_by_text("The connection is revoked.")).to_be_visible()
    assert sandbox.oauth_counts(client_of(signin))["revocations"] >= 1
    assert ExternalApiConnection.objects.get().pk == row.pk


def test_somebody_connects_by_consent_on_a_phone_without_javascript(
    phone: Page, signin: ExternalApi, app: Site
) -> None:
    tenant = make_tenant(slug="mallory-and-sons")
    link = create_link(signin, {"sales_channel_id": tenant.pk, "return_url": f"{app.url}/back"})
    phone.goto(link_url(link))
    expect(phone.get_by_text("for Mallory-And-Sons")).to_be_visible()
    assert_fits(phone)
    show(phone, "hosted-consent")
    phone.get_by_role("button", name="Continue to Harbour").click()
    phone.get_by_role("button", name="Deny").click()
    expect(phone.get_by_role("alert")).to_contain_text("access_denied")
    assert_fits(phone)
    show(phone, "hosted-denied")
    phone.get_by_role("button", name="Continue to Harbour").click()
    phone.get_by_role("button", name="Allow").click()
    expect(phone.get_by_text("Back at the app")).to_be_visible()
    row = ExternalApiConnection.objects.get()
    assert phone.url == f"{app.url}/back?connection_id={row.pk}&status=connected"
    assert row.tenant == tenant
    phone.goto(link_url(link))
    expect(phone.get_by_text("has been used already")).to_be_visible()
    assert_fits(phone)


def test_somebody_types_a_key_on_a_phone_without_javascript(phone: Page, keyed: ExternalApi) -> None:
    phone.goto(link_url(create_link(keyed, {})))
    phone.get_by_label("API key").fill("a-wrong-key-of-the-browser")
    show(phone, "hosted-form")
    phone.get_by_role("button", name="Connect").click()
    expect(phone.get_by_role("alert")).to_contain_text("did not accept this")
    assert phone.get_by_label("API key").input_value() == ""
    assert_fits(phone)
    show(phone, "hosted-problem")
    phone.get_by_label("API key").fill(credentials.API_KEY)
    phone.get_by_role("button", name="Connect").click()
    expect(phone.get_by_role("heading", name="Connected")).to_be_visible()
    show(phone, "hosted-done")
    assert ExternalApiConnection.objects.get().external_api == keyed


@pytest.mark.parametrize("way", ["frame", "window"])
def test_the_page_that_embeds_a_link_is_told(browser: Browser, keyed: ExternalApi, app: Site, way: str) -> None:
    link = create_link(keyed, {"origin": app.url})
    app.embed(link)
    context = browser.new_context()
    page = open_page(context)
    page.goto(app.url)
    form: Any = page.frame_locator("iframe") if way == "frame" else open_window(context, page)
    form.get_by_label("API key").fill(credentials.API_KEY)
    form.get_by_role("button", name="Connect").click()
    expect(form.get_by_role("heading", name="Connected")).to_be_visible()
    row = ExternalApiConnection.objects.get()
    expect(page).to_have_title(re.compile(row.pk))
    told = {"type": "external-apis.connect", "link": link.pk, "status": "connected", "connection_id": row.pk}
    ours = urlsplit(link_url(link))
    assert page.evaluate("JSON.parse(document.title)") == [f"{ours.scheme}://{ours.netloc}", told]
    context.close()


def test_consent_in_a_frame_goes_on_in_a_window_and_the_page_is_told(
    browser: Browser, signin: ExternalApi, app: Site
) -> None:
    app.embed(create_link(signin, {"origin": app.url}))
    context = browser.new_context()
    page = open_page(context)
    page.goto(app.url)
    with context.expect_page() as opened:
        page.frame_locator("iframe").get_by_role("link", name="Continue in a new window").click()
    window = opened.value
    window.get_by_role("button", name="Continue to Harbour").click()
    window.get_by_role("button", name="Allow").click()
    expect(window.get_by_role("heading", name="Connected")).to_be_visible()
    expect(page).to_have_title(re.compile(ExternalApiConnection.objects.get().pk))
    context.close()


def test_another_site_neither_frames_the_page_nor_is_told(
    browser: Browser, keyed: ExternalApi, app: Site, stranger: Site
) -> None:
    stranger.embed(create_link(keyed, {"origin": app.url}))
    context = browser.new_context()
    page = open_page(context)
    refusals: list[str] = []
    page.on("console", lambda message: refusals.append(message.text))
    page.goto(stranger.url)
    window = open_window(context, page)
    window.get_by_label("API key").fill(credentials.API_KEY)
    window.get_by_role("button", name="Connect").click()
    expect(window.get_by_role("heading", name="Connected")).to_be_visible()
    assert any("frame-ancestors" in text for text in refusals), refusals
    assert page.frame_locator("iframe").get_by_label("API key").count() == 0
    assert page.title() == "Embedding"
    context.close()


def open_window(context: BrowserContext, page: Page) -> Page:
    with context.expect_page() as opened:
        page.get_by_role("button", name="Open").click()
    return opened.value


def client_of(api: ExternalApi) -> str:
    return str(api.secrets["oauth2.client_id"])


def assert_fits(page: Page) -> None:
    """Nothing hangs over the phone's edge, and the button is high enough for a thumb."""
    for part in page.locator("main, main *:visible").all():
        box = part.bounding_box()
        assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= PHONE_WIDTH), part
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44


def show(page: Page, name: str) -> None:
    """``SCREENSHOTS=folder`` keeps pictures of the pages, for somebody to look at."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_load_state("networkidle")
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
