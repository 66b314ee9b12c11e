"""Connect links of providers that ask for consent: bound to the browser that began, told how it ended."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from django.test import Client

from connections.connect_links.browsers import COOKIE_NAME
from connections.models import ExternalApiConnection, OAuthFlow
from connections.sandbox import credentials
from external_apis.models import ExternalApi
from tests.connections.test_connect_links import APP, make, path_of, status_of, text_of
from tests.factories import make_connection, make_provider, make_tenant
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _allowed(settings: Any, sandbox: Sandbox) -> None:
    settings.CONNECT_ALLOWED_ORIGINS = (APP,)
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]


def make_oauth2(sandbox: Sandbox, **config: Any) -> ExternalApi:
    """A provider whose client the sandbox knows, with consent given at once."""
    client_id, secret = f"linked-{next(_numbers)}", "the secret of a linked client"
    block = {
        "client_id": client_id,
        "client_secret": secret,
        "authorization_url": f"{sandbox.url}/oauth/authorize",
        "token_url": f"{sandbox.url}/oauth/token",
        "scopes": ["read", "write"],
    }
    base = {"base_url": f"{sandbox.url}/auth/oauth2", "auth_type": "oauth2", "oauth2": block, **config}
    api = make_provider(environment="development", api_config=base)
    callbacks = [f"http://{host}/admin/external-apis/{api.pk}/oauth/callback" for host in HOSTS]
    sandbox.register(client_id, client_secret=secret, redirect_uris=callbacks, consent="approve")
    return api


HOSTS = ("127.0.0.1:8000", "localhost:8000")


def client_of(api: ExternalApi) -> str:
    return str(api.secrets["oauth2.client_id"])


def browser() -> Client:
    return Client(headers={"Host": HOSTS[0]})


def begin(page: Client, path: str, **posted: str) -> str:
    """Open the page and press its button; return the provider's address."""
    shown = text_of(page.get(path))
    proof = shown.partition('name="proof" value="')[2].partition('"')[0]
    assert proof
    answer = page.post(path, {"proof": proof, **posted})
    assert answer.status_code == 302, text_of(answer)
    return str(answer["Location"])


def consent(url: str) -> str:
    """Say yes at the provider; return path and query of the callback to which it sends the browser."""
    answer = requests.get(url, allow_redirects=False, timeout=10)
    assert answer.status_code == 302, answer.text
    parts = urlsplit(answer.headers["Location"])
    return f"{parts.path}?{parts.query}"


def test_the_button_leads_to_the_provider_and_back_to_a_connection(sandbox: Sandbox) -> None:
    api, tenant = make_oauth2(sandbox), make_tenant()
    made = make(api, sales_channel_id=tenant.pk, connection_name="Theirs", return_url=f"{APP}/back")
    page = browser()
    url = begin(page, path_of(made))
    assert url.startswith(f"{sandbox.url}/oauth/authorize?")
    assert page.cookies[COOKIE_NAME]["httponly"]
    assert page.cookies[COOKIE_NAME]["samesite"] == "Lax"
    answer = page.get(consent(url))
    row = ExternalApiConnection.objects.get()
    assert answer["Location"] == f"{APP}/back?connection_id={row.pk}&status=connected"
    assert (row.tenant, row.connection_name, row.status) == (tenant, "Theirs", "active")
    assert row.created_by == f"link:{made['id']}"
    assert row.credential.secrets["refresh_token"].startswith(credentials.ISSUED_PREFIX)
    shown = status_of(api, made)
    assert (shown["status"], shown["connection_id"]) == ("connected", row.pk)
    assert page.get(path_of(made)).status_code == 410


def test_another_browser_neither_finishes_nor_learns_the_link(sandbox: Sandbox) -> None:
    """Somebody sends the provider's address, begun in their own browser, to a victim who consents."""
    api = make_oauth2(sandbox)
    made = make(api)
    path = path_of(made)
    url = begin(browser(), path)
    victim = browser()
    victim.get(path_of(make(api)))  # has a cookie of its own
    for stranger in (browser(), victim):
        callback = consent(url)
        answer = stranger.get(callback, follow=True)
        assert answer.status_code == 400
        assert path not in text_of(answer)
        assert not answer.redirect_chain
    assert not ExternalApiConnection.objects.exists()
    assert status_of(api, made)["error"] is None


@pytest.mark.parametrize("posted", [{}, {"proof": ""}, {"proof": "0" * 64}])
def test_a_form_of_another_site_begins_nothing(sandbox: Sandbox, posted: dict[str, str]) -> None:
    path = path_of(make(make_oauth2(sandbox)))
    page = browser()
    assert page.post(path, posted).status_code == 400  # without a cookie
    page.get(path)
    assert page.post(path, posted).status_code == 400
    other = path_of(make(make_oauth2(sandbox)))
    proof = text_of(page.get(other)).partition('name="proof" value="')[2].partition('"')[0]
    assert page.post(path, {"proof": proof}).status_code == 400  # of another link
    assert not OAuthFlow.objects.exists()


def test_a_refusal_is_told_on_the_page_and_can_be_tried_again(sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox)
    sandbox.register(client_of(api), consent="deny", consent_description="<b>Not today</b>")
    made = make(api, origin=APP)
    page = browser()
    answer = page.get(consent(begin(page, path_of(made))), follow=True)
    assert answer.redirect_chain == [(path_of(made), 302)]
    told = text_of(answer)
    assert "access_denied" in told
    assert "<b>Not today" not in told
    assert 'data-status="failed"' in told
    assert f'data-origin="{APP}"' in told
    for again in (page, browser()):
        opened = text_of(again.get(path_of(made)))
        assert "access_denied" in opened
        assert "data-status" not in opened, "it is told once"
    assert "access_denied" in status_of(api, made)["error"]
    sandbox.register(client_of(api), consent="approve")
    done = page.get(consent(begin(page, path_of(made))), follow=True)
    assert 'data-status="connected"' in text_of(done)
    assert status_of(api, made)["status"] == "connected"


def test_two_tabs_of_one_link_make_one_connection(sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox)
    made = make(api)
    page = browser()
    first, second = (consent(begin(page, path_of(made))) for _ in range(2))
    assert "Connected" in text_of(page.get(first, follow=True))
    page.get(second, follow=True)
    assert ExternalApiConnection.objects.count() == 1


def test_a_connection_is_authorised_again_and_keeps_its_id(sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox)
    row = make_connection(api, tenant=make_tenant(), credentials={"access_token": "an old access token"})
    made = make(api, connection_id=row.pk)
    page = browser()
    page.get(consent(begin(page, path_of(made))))
    again = ExternalApiConnection.objects.get()
    assert (again.pk, again.slug) == (row.pk, row.slug)
    assert again.credential.secrets["access_token"] != "an old access token"


def test_parts_of_the_providers_address_are_asked_first(sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox, base_url=sandbox.url + "/echo/{shop}", url_variables={"shop": {"pattern": "[a-z]+"}})
    made = make(api)
    page = browser()
    assert 'name="shop"' in text_of(page.get(path_of(made)))
    proof = text_of(page.get(path_of(made))).partition('name="proof" value="')[2].partition('"')[0]
    assert page.post(path_of(made), {"proof": proof, "shop": "NO"}).status_code == 400
    page.get(consent(begin(page, path_of(made), shop="acme")))
    assert ExternalApiConnection.objects.get().provider_data["shop"] == "acme"


def test_in_a_frame_the_button_opens_a_window(sandbox: Sandbox) -> None:
    """Providers let nobody frame them, and a frame's cookies may be another browser's in effect."""
    path = path_of(make(make_oauth2(sandbox), origin=APP))
    framed = text_of(browser().get(path, headers={"Sec-Fetch-Dest": "iframe"}))
    assert 'target="_blank" rel="opener"' in framed
    assert "<form" not in framed


def test_oauth1_goes_the_same_way(sandbox: Sandbox) -> None:
    key, secret = f"linked-consumer-{next(_numbers)}", "the secret of a consumer"
    api = make_provider(
        environment="development",
        api_config={
            "base_url": f"{sandbox.url}/auth/oauth1",
            "auth_type": "oauth1",
            "oauth1": {
                "consumer_key": key,
                "consumer_secret": secret,
                "request_token_url": f"{sandbox.url}/oauth1/request_token",
                "authorization_url": f"{sandbox.url}/oauth1/authorize",
                "access_token_url": f"{sandbox.url}/oauth1/access_token",
            },
        },
    )
    callbacks = [f"http://{host}/admin/external-apis/{api.pk}/oauth/callback" for host in HOSTS]
    sandbox.register(key, client_secret=secret, redirect_uris=callbacks, consent="approve")
    made = make(api)
    page = browser()
    url = begin(page, path_of(made))
    assert set(parse_qs(urlsplit(url).query)) == {"oauth_token"}
    page.get(consent(url))
    assert ExternalApiConnection.objects.get().credential.secrets["oauth_token_secret"]
    assert status_of(api, made)["status"] == "connected"
