"""Calls through the gateway from another service: the same as `ApiClient`'s, over a real server to the sandbox."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic, sleep
from typing import Any

import pytest
import requests

from connections.client import ApiClient
from connections.models import ExternalApiConnection
from connections.remote import RemoteClient, get_api_client
from connections.remote.paging import Paging
from connections.sandbox import definitions
from connections.services import delete_connection
from connections.services import get_api_client as get_local_client
from external_apis.errors import (
    CallError,
    EgressRefused,
    Forbidden,
    GraphqlError,
    InvalidApiKey,
    InvalidInput,
    NotFound,
    PaginationBroken,
)
from external_apis.models import ExternalApi
from external_apis.pagination_config import Pagination
from external_apis.providers import update_external_api
from tests.factories import make_connection, make_key, make_provider
from tests.sandbox import Sandbox
from tests.web import Web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def both(sandbox: Sandbox, web: Web, settings: Any) -> tuple[ApiClient, RemoteClient]:
    """A client of this process, and one of another service, for one connection."""
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    body = next(body for body in definitions.providers(sandbox.url) if body["slug"] == "sandbox-bearer")
    config = {**body["api_config"], "retry_config": {"max_retries": 0}}
    config["url_variables"] = {"shop": {}, "area": {}}
    api = make_provider(slug="sandbox", api_config=config, environment="development")
    make_connection(
        api, slug="default", credentials=body["connection"]["credentials"], provider_data={"shop": "acme-1"}
    )
    return twins("sandbox/default", web)


def twins(reference: str, web: Web) -> tuple[ApiClient, RemoteClient]:
    key = make_key(scopes=["proxy"]).token
    return get_local_client(reference), get_api_client(reference, base_url=web.url, key=key)


def test_the_two_interfaces_are_one() -> None:
    own = {"on_event", "target", "base_path", "idempotency_header", "covers_body", "exchange", "show"}
    own |= {"deadline_seconds"}  # what only the gateway needs
    local = {name for name in dir(ApiClient) if not name.startswith("_")} - own
    assert {name for name in dir(RemoteClient) if not name.startswith("_")} == local
    for name in local:
        mine, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (RemoteClient, ApiClient))
        assert [(p.name, p.kind, p.default) for p in mine.values()] == [
            (p.name, p.kind, p.default) for p in theirs.values()
        ], name


def test_the_settings_of_lists_are_the_same() -> None:
    defaults = Pagination(style="page").model_dump()
    assert {**asdict(Paging()), "style": "page"} == defaults


def test_calls_are_the_same(both: tuple[ApiClient, RemoteClient]) -> None:
    calls: list[Callable[[Any], requests.Response]] = [
        lambda client: client.get("/echo", {"a": [1, 2], "b": {"c": "d e"}}),
        lambda client: client.get("/echo/a%2Fb/%C3%A9/ü?x=%26", {"y": "ä"}),
        lambda client: client.post("/echo", {"name": "x", "list": [1]}, headers={"X-Mine": "yes"}),
        lambda client: client.put("/echo", json={"name": "x"}),
        lambda client: client.patch("/echo", b"bytes"),
        lambda client: client.delete("/echo", params={"q": "1"}),
        lambda client: client.request("POST", "/echo", data="text"),
        lambda client: client.get("/echo/{shop}/{nobody}?x={shop}"),
        lambda client: client.get("/echo", {"dry_run": "curl", "a": "1"}),
        lambda client: client.get("/echo?dry_run=curl&dry_run=x"),
        lambda client: client.post("/echo", {"a": 1}, headers={"content-type": "application/vnd.mine+json"}),
    ]
    local, remote = both
    for call in calls:
        mine, theirs = call(remote), call(local)
        assert mine.status_code == theirs.status_code
        assert mine.url == theirs.url
        assert _told(mine.json()) == _told(theirs.json())


def _told(body: dict[str, Any]) -> dict[str, Any]:
    unlike = ("x-request-id", "authorization", "content-length", "connection", "accept-encoding")
    given = {name.lower(): value for name, value in body.pop("headers", {}).items()}
    headers = {name: value for name, value in given.items() if name not in unlike}
    return {**body, "headers": headers}


def test_errors_are_the_same(both: tuple[ApiClient, RemoteClient]) -> None:
    for path in ("/status/404", "/status/401", "/status/429", "/status/503", "/status/500", "/status/422"):
        found = []
        for client in both:
            with pytest.raises(Exception) as caught:
                client.get(path)
            error: Any = caught.value
            found.append((type(error), error.status, error.upstream_status, error.message, error.may_have_happened))
            assert error.request_id
        assert found[0] == found[1], path
    for arguments in (("TRACE", "/"), ("GET", "//x/y"), ("GET", "/a/../b"), ("GET", "https://x/"), ("GET", "/a\r\nb")):
        for client in both:
            with pytest.raises(InvalidInput):
                client.request(*arguments)
    wrong: list[Any] = ["/echo/{area}", "/a/%2e%2e/b", 7]
    for place in wrong:
        for client in both:
            with pytest.raises(InvalidInput):
                client.get(place)
    with pytest.raises(InvalidInput):  # which the gateway refuses, and no library smoothes out before
        both[1].get("/echo/./x")
    for headers in ({"Host": "x"}, {"A": "b\r\nC: d"}, {"Transfer-Encoding": "chunked"}):
        for client in both:
            with pytest.raises(InvalidInput):
                client.get("/me", headers=headers)


@pytest.mark.parametrize(
    ("path", "retries"),
    [("/close?when=before", 1), ("/close?when=head", 0), ("/lie?content_length=100&bytes=10", 0), ("/hang", 0)],
)
def test_errors_that_the_server_makes_are_the_same(
    path: str, retries: int, both: tuple[ApiClient, RemoteClient], web: Web
) -> None:
    retry = {"max_retries": retries, "backoff_ms": 1, "jitter_ms": 0}
    api = ExternalApi.objects.get(slug="sandbox")
    update_external_api(api, {"api_config": {"timeout_ms": 250, "retry_config": retry}})
    found = []
    for client in twins("sandbox/default", web):
        with pytest.raises(CallError) as caught:
            client.get(path)
        error = caught.value
        assert error.request_id
        assert error.details.pop("request_id") == error.request_id
        assert (error.attempts, error.may_have_happened) == (retries + 1, True)
        found.append((type(error), error.code, error.status, error.message, error.details))
    assert found[0] == found[1], path


@pytest.mark.parametrize("style", ["page", "offset", "cursor", "link", "next_url"])
def test_lists(both: tuple[ApiClient, RemoteClient], style: str) -> None:
    path = f"/items/{style.replace('_', '-')}"
    expected, found = (list(client.paginate(path, style, {"total": 25}, limit=10)) for client in both)
    assert found == expected
    assert len(found) == 25
    with pytest.raises(PaginationBroken):
        list(both[1].paginate(path, style, {"total": 25}, limit=10, max_pages=2))


def test_what_is_no_setting_of_a_list(both: tuple[ApiClient, RemoteClient]) -> None:
    for client in both:
        for arguments in (
            {},
            {"style": "x"},
            {"style": "page", "nothing": 1},
            {"style": "page", "options": {"x": 1}},
            {"style": "cursor", "cursor_path": 5},
            {"style": "cursor", "cursor_path": "x" * 201},
            {"style": "cursor", "cursor_param": "a&b"},
            {"style": "page", "limit": -2},
            {"style": "page", "first_page": 2},
            {"style": "page", "max_pages": 0},
            {"style": "page", "max_pages": None},
        ):
            with pytest.raises(InvalidInput):
                client.paginate("/items/page", **arguments)


def test_a_next_page_elsewhere_is_refused(both: tuple[ApiClient, RemoteClient], sandbox: Sandbox) -> None:
    _, remote = both
    home = remote.get("/me").url.removesuffix("/me")
    assert remote.follow(f"{home}/me").status_code == 200
    for url in (
        "https://evil.example/me",
        f"{sandbox.url}/other",
        home.replace("//", "//u:p@") + "/me",
        "http://[",
        "",
    ):
        with pytest.raises(EgressRefused):
            remote.follow(url)


def test_graphql(both: tuple[ApiClient, RemoteClient]) -> None:
    query = "query ($id: ID!) { user(id: $id) { id name } }"
    expected, found = (client.graphql(query, {"id": "7"}) for client in both)
    assert found == expected
    for client in both:
        with pytest.raises(GraphqlError):
            client.graphql("{ nothing }")


def test_streams_both_ways(both: tuple[ApiClient, RemoteClient]) -> None:
    _, remote = both
    sent = bytes(range(256)) * 2000
    with remote.post("/echo", io.BytesIO(sent), stream=True) as answer:
        assert answer.status_code == 200
        assert b"".join(answer.iter_content(10_000))
    assert remote.post("/echo", iter([b"a", b"b"])).status_code == 200


def test_a_dry_run_sends_nothing_and_shows_no_secret(both: tuple[ApiClient, RemoteClient], sandbox: Sandbox) -> None:
    local, remote = both
    remote.get("/me")
    before = sandbox.total()
    shown = remote.dry_run("POST", "/echo?x=1", {"a": 1}, params={"y": "2"})
    assert sandbox.total() == before
    assert shown.startswith("curl")
    assert "x=1" in shown
    assert "y=2" in shown
    assert not [secret for secret in local.target.secrets() if secret in shown]


def test_what_the_server_says_itself(both: tuple[ApiClient, RemoteClient], web: Web) -> None:
    with pytest.raises(InvalidApiKey):
        get_api_client("sandbox/default", base_url=web.url, key="sk_live_nobodys").get("/me")
    reader = make_key(scopes=["credentials:read"]).token
    with pytest.raises(Forbidden) as caught:
        get_api_client("sandbox/default", base_url=web.url, key=reader).get("/me")
    assert caught.value.details["scope"] == "proxy"
    key = make_key(scopes=["proxy"]).token
    with pytest.raises(NotFound):
        get_api_client("sandbox/other", base_url=web.url, key=key).get("/me")


def test_after_a_404_of_the_gateway_the_connection_is_looked_up_anew(
    both: tuple[ApiClient, RemoteClient], sandbox: Sandbox
) -> None:
    """It may have been made anew under its name; the old one would be asked for, for a minute."""
    _, remote = both
    assert remote.get("/me").status_code == 200
    old = ExternalApiConnection.objects.get()
    delete_connection(old)
    deleted = monotonic()

    def call_until_that_is_seen() -> None:
        while monotonic() - deleted < 2:
            remote.get("/me")
            sleep(0.02)

    with pytest.raises(NotFound):
        call_until_that_is_seen()
    body = next(body for body in definitions.providers(sandbox.url) if body["slug"] == "sandbox-bearer")
    new = make_connection(old.external_api, slug="default", credentials=body["connection"]["credentials"])
    assert new.pk != old.pk
    assert remote.get("/me").status_code == 200
