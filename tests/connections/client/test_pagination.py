"""Every style of pages against the sandbox, and providers that go in circles, lie, or lead astray."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from connections.sandbox import credentials
from external_apis.errors import BadAnswer, EgressRefused, InvalidConfiguration, InvalidInput, PaginationBroken
from tests.connections.client.conftest import MakeClient
from tests.sandbox import Sandbox
from tests.sockets import read_head, serve

STYLES = {
    "page": "/items/page",
    "offset": "/items/offset",
    "cursor": "/items/cursor",
    "link": "/items/link",
    "next_url": "/items/next-url",
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("total", [0, 1, 9, 10, 11, 35])
def test_each_style_gives_every_item_once(make_client: MakeClient, style: str, total: int) -> None:
    items = make_client().paginate(STYLES[style], style, {"total": total}, limit=10)
    assert [item["id"] for item in items] == list(range(1, total + 1))


@pytest.mark.parametrize("style", STYLES)
def test_every_page_is_signed(make_client: MakeClient, style: str) -> None:
    for scheme in ("bearer", "api-key-query"):
        items = make_client(scheme).paginate(STYLES[style], style, {"total": 25}, limit=10)
        assert sum(1 for _ in items) == 25


def test_the_provider_configures_what_calls_need_not_say(make_client: MakeClient) -> None:
    client = make_client(pagination={"style": "cursor", "limit": 5, "items_path": "data"})
    assert len(list(client.paginate("/items/cursor", params={"total": 12}))) == 12
    assert len(list(client.paginate("/items/page", "page", {"total": 12}))) == 12
    with pytest.raises(InvalidInput, match="style"):
        make_client().paginate("/items/page")
    with pytest.raises(InvalidInput, match="limit"):
        make_client().paginate("/items/page", "page", limit=0)
    with pytest.raises(InvalidInput, match="style"):
        make_client().paginate("/items/page", "by magic")
    with pytest.raises(InvalidConfiguration, match=r"pagination\.style"):
        make_client(pagination={"style": "by magic"})


def test_pages_are_fetched_when_they_are_needed(make_client: MakeClient, sandbox: Sandbox) -> None:
    items = make_client().paginate("/items/page", "page", {"total": 1000, "key": "lazily"}, limit=10)
    assert sandbox.count("lazily") == 0
    assert len(list(itertools.islice(items, 11))) == 11
    assert sandbox.count("lazily") == 2


def test_a_walk_may_begin_in_the_middle(make_client: MakeClient) -> None:
    client = make_client()
    assert next(client.paginate("/items/page", "page", {"page": 3}, limit=10))["id"] == 21
    assert next(client.paginate("/items/offset", "offset", {"offset": 7, "limit": 3}))["id"] == 8
    assert len(list(client.paginate("/items/offset", "offset", {"offset": 90, "limit": 3}))) == 10
    with pytest.raises(InvalidInput, match="page"):
        next(client.paginate("/items/page", "page", {"page": "third"}))


def test_a_repeated_cursor_is_an_error(make_client: MakeClient) -> None:
    items = make_client().paginate("/items/cursor", "cursor", {"loop": 1, "total": 50})
    with pytest.raises(PaginationBroken, match=r"cursor twice|same page"):
        list(items)


def test_a_provider_that_ignores_the_page_number_is_an_error(make_client: MakeClient) -> None:
    with pytest.raises(PaginationBroken, match="same page twice"):
        list(make_client().paginate("/items/offset", "page", {"total": 50}, limit=10, page_param="p"))


def test_a_list_without_end_is_an_error(make_client: MakeClient) -> None:
    items = make_client().paginate("/items/page", "page", {"total": 1000}, limit=10, max_pages=3)
    seen: list[Any] = []
    with pytest.raises(PaginationBroken, match="within 3 pages"):
        seen.extend(items)
    assert len(seen) == 30


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://127.0.0.1:9/", "https://127.0.0.1/x", "//evil.test/x", "ftp://a/b"]
)
def test_the_next_url_may_not_leave_the_providers_origin(make_client: MakeClient, url: str) -> None:
    items = make_client("bearer").paginate("/items/next-url", "next_url", {"next_to": url}, limit=5)
    with pytest.raises(EgressRefused) as caught:
        list(items)
    assert credentials.BEARER_TOKEN not in str(caught.value)


def test_a_next_url_in_a_circle_is_an_error(make_client: MakeClient) -> None:
    def play(client: Any) -> None:
        for number in itertools.count():
            following = b"/b" if b"GET /a" in read_head(client) else b"/a"
            body = b'{"results": [%d], "next": "%b"}' % (number, following)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with serve(play) as port, pytest.raises(PaginationBroken, match="leads back"):
        list(make_client(base_url=f"http://127.0.0.1:{port}").paginate("/a", "next_url"))


def test_a_key_that_the_provider_echoes_into_the_next_url_is_sent_once(make_client: MakeClient) -> None:
    client = make_client("api-key-query")
    name = credentials.API_KEY_QUERY
    following = f"{client.target.config.base_url}/items/next-url?offset=10&total=20&{name}={credentials.QUERY_API_KEY}"
    assert client.follow(following).json()["results"][0]["id"] == 11


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": {"a": 1}}', b"3", b"[" * 100_000])
def test_a_page_that_is_no_list_is_an_error(make_client: MakeClient, body: bytes) -> None:
    def play(client: Any) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with serve(play) as port, pytest.raises(BadAnswer):
        list(make_client(base_url=f"http://127.0.0.1:{port}").paginate("/x", "page"))


def test_stripes_pages_go_on_after_the_last_items_id(make_client: MakeClient) -> None:
    targets: list[str] = []

    def play(client: Any) -> None:
        while True:
            target = read_head(client).split()[1].decode()
            targets.append(target)
            first = int(target.rpartition("starting_after=")[2]) + 1 if "starting_after" in target else 1
            page = {"object": "list", "data": [{"id": first}, {"id": first + 1}], "has_more": first < 5}
            body = json.dumps(page).encode()
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    stripe = {
        "style": "cursor", "limit": 2, "cursor_param": "starting_after", "cursor_path": "data.-1.id",
        "has_more_path": "has_more",
    }  # fmt: skip
    with serve(play) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}", pagination=stripe)
        assert [item["id"] for item in client.paginate("/v1/charges")] == [1, 2, 3, 4, 5, 6]
    assert targets == ["/v1/charges?limit=2", *(f"/v1/charges?limit=2&starting_after={n}" for n in (2, 4))]


def paging(pages: Callable[[int], Any], targets: list[str], header: str = "") -> Any:
    """A provider whose pages are made from the number of the request; ``{}`` in the header is that of the next."""

    def play(client: Any) -> None:
        while True:
            targets.append(read_head(client).split()[1].decode())
            number = len(targets)
            body = json.dumps(pages(number)).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{header.format(number + 1)}\r\n"
            client.sendall(head.encode() + body)

    return serve(play)


@pytest.mark.parametrize(
    "make_page",
    [
        pytest.param(lambda number: {"data": list(range(10)), "request_id": number}, id="a stamp"),
        pytest.param(lambda number: [[1] * 10, [2] * 10][number % 2], id="two in turn"),
    ],
)
@pytest.mark.parametrize("style", ["page", "offset"])
def test_a_page_that_was_there_before_is_an_error(make_client: MakeClient, make_page: Any, style: str) -> None:
    targets: list[str] = []
    with paging(make_page, targets) as port, pytest.raises(PaginationBroken, match="same page twice"):
        list(make_client(base_url=f"http://127.0.0.1:{port}").paginate("/x", style, limit=10))
    assert len(targets) <= 3


def test_equal_pages_are_believed_where_the_provider_says_that_more_follow(make_client: MakeClient) -> None:
    targets: list[str] = []
    with paging(lambda number: {"data": [0] * 10, "more": number < 5}, targets) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}")
        assert len(list(client.paginate("/x", "page", limit=10, has_more_path="more"))) == 50
    with paging(lambda number: {"data": [0] * 10, "more": True}, []) as port, pytest.raises(PaginationBroken):
        list(make_client(base_url=f"http://127.0.0.1:{port}").paginate("/x", "page", limit=10, has_more_path="more"))


@pytest.mark.parametrize("style", ["page", "offset"])
def test_an_empty_page_is_not_the_last_when_the_provider_says_so(make_client: MakeClient, style: str) -> None:
    targets: list[str] = []
    with paging(lambda number: {"data": [7] * (number == 3), "more": number < 3}, targets) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}")
        assert list(client.paginate("/x", style, limit=10, has_more_path="more")) == [7]
    assert len(set(targets)) == 3
    with paging(lambda number: {"data": [], "more": True}, []) as port, pytest.raises(PaginationBroken, match="empty"):
        list(make_client(base_url=f"http://127.0.0.1:{port}").paginate("/x", style, has_more_path="more"))


@pytest.mark.parametrize("relation", ["next", "next last", "Last NEXT"])
def test_a_link_may_have_several_relations_and_pages_the_options_of_a_call(
    make_client: MakeClient, relation: str
) -> None:
    link = f'Link: </x?p={{}}>; rel="{relation}"\r\n'
    targets: list[str] = []
    with paging(lambda number: [number], targets, link) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}")
        items = client.paginate("/x", "link", options={"max_body_bytes": 3, "timeout_ms": 5000})
        assert list(itertools.islice(items, 3)) == [1, 2, 3]
        with pytest.raises(BadAnswer, match="longer than 3 bytes"):
            list(items)
    with pytest.raises(InvalidInput, match=r"options\.stream"):
        client.paginate("/x", "link", options={"stream": True})
