"""The OAuth button behind a connect link: bound to the link and to the browser that pressed it."""

from __future__ import annotations

import re

import pytest

from connections.connect_links.invitations import create_link, link_url
from connections.models import ConnectLink, ExternalApiConnection
from tests.authority import Authority, come_back, consent
from tests.factories import make_tenant
from tests.rest import RestClient

pytestmark = pytest.mark.django_db(transaction=True)


def press(browser: RestClient, link: ConnectLink) -> str:
    """Open the page, press its button, and return the provider's address."""
    path = link_url(link).removeprefix("http://127.0.0.1:8000")
    page = browser.get(path)
    assert page.status_code == 200
    proof = re.search(r'name="proof" value="([0-9a-f]+)"', page.content.decode())
    assert proof is not None
    answer = browser.post(path, {"proof": proof.group(1)})
    assert answer.status_code == 302, answer.content
    location: str = answer.headers["Location"]
    return location


def test_the_button_makes_the_connection_and_uses_the_link_up(authority: Authority) -> None:
    api, tenant, browser = authority.oauth2(), make_tenant(), RestClient()
    link = create_link(api, {"sales_channel_id": tenant.pk, "connection_name": "Theirs"})
    location = consent(press(browser, link))
    assert come_back(RestClient(), location).status_code == 400  # another browser
    answer = come_back(browser, location)
    assert answer.status_code == 302
    assert "/connect/done/" in answer.headers["Location"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    row = ExternalApiConnection.objects.get(external_api=api)
    assert (row.tenant, row.connection_name) == (tenant, "Theirs")
    link.refresh_from_db()
    assert (link.made_connection, link.used_at is not None) == (row, True)


def test_two_who_press_it_make_one_connection(authority: Authority) -> None:
    api, first, second = authority.oauth2(), RestClient(), RestClient()
    link = create_link(api, {})
    locations = [consent(press(browser, link)) for browser in (first, second)]
    come_back(first, locations[0])
    come_back(second, locations[1])
    assert ExternalApiConnection.objects.filter(external_api=api).count() == 1


def test_a_refusal_is_noted_and_leaves_the_link_usable(authority: Authority) -> None:
    api, browser = authority.oauth2(client={"consent": "deny"}), RestClient()
    link = create_link(api, {})
    assert come_back(browser, consent(press(browser, link))).status_code == 302
    link.refresh_from_db()
    assert "access_denied" in link.error
    authority.sandbox.register(api.provider, consent="approve")
    come_back(browser, consent(press(browser, link)))
    assert ExternalApiConnection.objects.filter(external_api=api).count() == 1
