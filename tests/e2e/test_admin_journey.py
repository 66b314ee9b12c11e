"""What a newcomer does in the admin, in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from connections.models import ExternalApiConnection
from connections.sandbox import credentials
from external_apis.backoffice.overview_sums import add_numbers
from external_apis.models import ExternalApi
from tests.admin_pages import addresses, make_rows
from tests.sandbox import Sandbox
from tests.webhook_receiver import make_delivery, make_endpoint

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a password of the browser test"


@pytest.fixture
def page(browser: Browser, live_server: Any) -> Iterator[Page]:
    """A signed-in page; the test fails for script errors and for requests to any other host."""
    get_user_model().objects.create_superuser("admin", password=PASSWORD)
    context = browser.new_context(viewport={"width": 1360, "height": 900}, base_url=live_server.url)
    page = context.new_page()
    page.set_default_timeout(10_000)
    errors: list[str] = []
    outside: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    own = (live_server.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else outside.append(request.url))
    page.goto("/admin/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("From an API to its first call")).to_be_visible()
    yield page
    context.close()
    assert (errors, outside) == ([], [])


def test_from_a_provider_to_a_tested_connection(page: Page, sandbox: Sandbox, settings: Any) -> None:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]
    add_provider(page, sandbox)
    api = ExternalApi.objects.get(slug="my-api")
    assert api.auth_type == "basic"

    page.locator("#result_list").get_by_role("link", name="My API").click()
    page.get_by_role("link", name="Add connection").click()
    page.fill("[name=connection_name]", "My account")
    page.fill("[name='credentials.username']", credentials.BASIC_USERNAME)
    page.fill("[name='credentials.password']", credentials.BASIC_PASSWORD)
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_placeholder("••••••••")).to_have_count(2)
    assert credentials.BASIC_PASSWORD not in page.content()

    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_text("The connection works")).to_contain_text(re.compile(r"HTTP 200, \d+ ms"))
    take_screenshot(page)

    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("heading", name="History of My account")).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Delete connection").click()
    page.get_by_role("button", name="Yes, I").click()
    expect(page.get_by_text("was deleted successfully")).to_be_visible()
    row = ExternalApiConnection.objects.get()
    assert row.is_deleted
    page.goto("/admin/connections/externalapiconnection/?deleted=yes")
    page.locator("#result_list").get_by_role("link", name="My account").click()
    expect(page.get_by_text("cannot be used or changed until it is restored")).to_be_visible()
    expect(page.get_by_role("button", name="Test connection")).to_have_count(0)
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("My account is restored.")).to_be_visible()
    row.refresh_from_db()
    assert not row.is_deleted


def add_provider(page: Page, sandbox: Sandbox) -> None:
    """Fill the form, changing the auth type by keyboard."""
    page.get_by_role("link", name="Add a provider").click()
    for name, value in {
        "name": "My API",
        "slug": "my-api",
        "config.base_url": f"{sandbox.url}/auth/basic",
        "config.test_path": "/me",
    }.items():
        page.fill(f"[name='{name}']", value)
    page.select_option("[name=environment]", "development")
    groups = page.locator("fieldset[class*=auth-type-]")
    visible = groups.locator("visible=true")
    expect(groups).not_to_have_count(1)
    expect(page.locator("fieldset.auth-type-bearer")).to_be_visible()
    page.focus("[name=auth_type]")
    page.keyboard.type("Basic")
    expect(page.locator("fieldset.auth-type-basic")).to_be_visible()
    expect(page.locator("fieldset.auth-type-bearer")).to_be_hidden()
    expect(page.locator("fieldset.auth-type-oauth2")).to_be_hidden()
    assert visible.count() > 0
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()


CUT_OFF = """() => [...document.querySelectorAll('#result_list td')].filter(cell => {
    const label = getComputedStyle(cell, '::before');
    const isSqueezed = label.display !== 'none' && parseFloat(label.height) > 1.8 * parseFloat(label.lineHeight);
    return isSqueezed || cell.scrollHeight > cell.clientHeight + 1 || cell.scrollWidth > cell.clientWidth + 1;
}).map(cell => `${cell.dataset.label}: ${cell.textContent.trim().slice(0, 40)}`)"""
OVERVIEW = "[...document.querySelectorAll('#overview_table, #overview_table td')].map(part => part.scrollWidth)"
LISTS = ("affiliate", "blog", "contactmessage", "featurerequest")


def test_no_page_is_wider_than_the_screen(page: Page) -> None:
    """What is wider, a table, scrolls in a box of its own; in a list nothing is cut off."""
    pages = [address for address in addresses(make_rows()) if "/connections/" in address or "/apikey/" in address]
    pages += [f"/admin/backoffice/{name}/" for name in LISTS]
    add_numbers({(None, timezone.now(), "revenue:EUR"): 10**15 * 86_400})
    faults = []
    for address in ["/admin/", *pages]:
        page.goto(address, wait_until="domcontentloaded")
        for width in (390, 1300):
            page.set_viewport_size({"width": width, "height": 900})
            found = page.evaluate("document.documentElement.scrollWidth")
            if found > width:
                faults.append((address, width, found))
            if cut := page.evaluate(CUT_OFF) if width == 390 else []:
                faults.append((address, width, cut))
            if address == "/admin/" and max(page.evaluate(OVERVIEW)) > width - 32:
                faults.append((address, width, "the table of the last 30 days"))
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.parametrize("width", [400, 1300])
def test_a_delivery_can_be_made_again_without_scrolling_sideways(page: Page, width: int) -> None:
    endpoint = make_endpoint(None, "grant.*")
    delivery = make_delivery(endpoint)
    delivery.last_error, delivery.last_status = "answered 500", 500
    delivery.save()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"/admin/connections/webhookendpoint/{endpoint.pk}/change/")
    button = page.get_by_role("table").get_by_role("button", name="Replay")
    box = button.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width
    button.click()
    expect(page.get_by_text("The delivery is made again.")).to_be_visible()


def take_screenshot(page: Page) -> None:
    """``SCREENSHOT=docs/screenshot.png make test`` renews the README's picture."""
    if path := os.environ.get("SCREENSHOT"):
        page.wait_for_load_state("networkidle")
        page.screenshot(path=Path(path))
