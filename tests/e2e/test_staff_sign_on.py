"""Staff sign in, are locked out and sign out, in a real browser and at a real provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from tests.factories import PASSWORD, make_user
from tests.oidc_provider import USER_PASSWORD, OidcProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BUTTON = "Sign in with your organisation's account"


@pytest.fixture
def page(browser: Browser, live_server: Any, oidc_provider: OidcProvider, settings: Any) -> Iterator[Page]:
    """A page that knows only us and the provider; the test fails for requests to any other host."""
    client = oidc_provider.register(
        [f"{live_server.url}/admin/sign-on/complete"], logout_uris=[f"{live_server.url}/admin/login/"]
    )
    settings.PUBLIC_BASE_URL = live_server.url
    settings.OIDC_ISSUER = oidc_provider.issuer
    settings.OIDC_CLIENT_ID = client.client_id
    settings.OIDC_CLIENT_SECRET = client.client_secret
    settings.OIDC_STAFF_CLAIM, settings.OIDC_STAFF_VALUE = "groups", "staff"
    settings.OIDC_SUPERUSER_VALUE = "root"
    context = browser.new_context(base_url=live_server.url)
    page = context.new_page()
    page.set_default_timeout(10_000)
    outside: list[str] = []
    own = (live_server.url, oidc_provider.origin, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else outside.append(request.url))
    yield page
    context.close()
    assert outside == []


def at_the_provider(page: Page, name: str) -> None:
    expect(page).to_have_title("Sign in at the provider")
    page.fill("[name=username]", name)
    page.fill("[name=password]", USER_PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_signing_in_and_out_at_the_provider(page: Page, oidc_provider: OidcProvider, settings: Any) -> None:
    oidc_provider.add_user("frida", preferred_username="frida", groups=["root"])
    settings.PASSWORD_LOGIN = False
    page.goto("/admin/external_apis/externalapi/")
    expect(page.locator("[name=password]")).to_have_count(0)
    page.get_by_role("link", name=BUTTON).click()
    at_the_provider(page, "frida")
    expect(page).to_have_url(f"{settings.PUBLIC_BASE_URL}/admin/external_apis/externalapi/")
    expect(
        page.get_by_role("heading", name="Select provider to change").or_(page.locator("#changelist"))
    ).to_be_visible()
    assert User.objects.get().username == "frida"

    page.evaluate("document.querySelector('form[action$=\"/admin/logout/\"]').submit()")
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    page.get_by_role("link", name=BUTTON).click()
    expect(page).to_have_title("Sign in at the provider")  # its session is over too


def test_who_is_no_staff_is_told(page: Page, oidc_provider: OidcProvider) -> None:
    oidc_provider.add_user("gero", groups=["guests"])
    page.goto("/admin/")
    page.get_by_role("link", name=BUTTON).click()
    at_the_provider(page, "gero")
    expect(page.get_by_text("not one of this product's staff")).to_be_visible()
    page.get_by_role("link", name="Back to the start page").click()
    expect(page.get_by_role("link", name=BUTTON)).to_be_visible()


def test_guessing_a_password_locks_it(page: Page) -> None:
    make_user("hugo", is_superuser=True)
    page.goto("/admin/")
    for _ in range(5):
        page.fill("[name=username]", "hugo")
        page.fill("[name=password]", "a guess")
        page.keyboard.press("Enter")
        page.wait_for_load_state()
    expect(page.get_by_role("heading", name="Too many wrong passwords")).to_be_visible()
    page.goto("/admin/")
    page.fill("[name=username]", "hugo")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Too many wrong passwords")).to_be_visible()
