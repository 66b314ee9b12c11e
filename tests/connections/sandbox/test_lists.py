"""Pagination in every style, walked to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connections.sandbox import credentials as c
from tests.connections.sandbox.conftest import Client

TOTALS = [0, 1, 9, 10, 11, 30]


def walk_pages(client: Client, total: int) -> list[Any]:
    found: list[Any] = []
    for page in range(1, 100):
        data = client.get(f"/items/page?total={total}&limit=10&page={page}").json()["data"]
        found += data
        if len(data) < 10:
            break
    return found


def walk_offsets(client: Client, total: int) -> list[Any]:
    found: list[Any] = []
    while True:
        answer = client.get(f"/items/offset?total={total}&offset={len(found)}").json()
        found += answer["data"]
        if len(found) >= answer["total"]:
            return found


def walk_cursors(client: Client, total: int) -> list[Any]:
    found: list[Any] = []
    cursor = ""
    while cursor is not None:
        answer = client.get("/items/cursor", params={"total": total, "cursor": cursor}).json()
        assert answer["data"] or not total
        found += answer["data"]
        cursor = answer["pagination"]["next_cursor"]
        assert answer["pagination"]["has_more"] == (cursor is not None)
    return found


def walk_links(client: Client, total: int) -> list[Any]:
    answer = client.get(f"/items/link?total={total}")
    found = list(answer.json())
    while "next" in answer.links:
        answer = client.session.get(answer.links["next"]["url"], timeout=5)
        assert answer.json()
        found += answer.json()
    assert answer.links["last"]["url"].endswith(f"page={max(1, -(-total // 10))}")
    return found


def walk_urls(client: Client, total: int) -> list[Any]:
    found: list[Any] = []
    url = f"{client.sandbox.url}/items/next-url?total={total}"
    while url:
        answer = client.session.get(url, timeout=5).json()
        assert answer["results"] or not total
        found += answer["results"]
        url = answer["next"]
    return found


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("walk", [walk_pages, walk_offsets, walk_cursors, walk_links, walk_urls])
def test_every_style_gives_every_item_once(
    client: Client, walk: Callable[[Client, int], list[Any]], total: int
) -> None:
    assert [item["id"] for item in walk(client, total)] == list(range(1, total + 1))


@pytest.mark.parametrize(
    "query",
    [
        "page?page=0",
        "page?page=-1",
        "page?page=a",
        "page?limit=0",
        "offset?limit=1001",
        "page?page=%D9%A1",
        "cursor?cursor=!",
    ],
)
def test_nonsense_is_refused(client: Client, query: str) -> None:
    assert client.get(f"/items/{query}").status_code == 400


def test_a_cursor_that_never_ends(client: Client) -> None:
    first = client.get("/items/cursor?loop=1").json()["pagination"]["next_cursor"]
    again = client.get("/items/cursor", params={"loop": 1, "cursor": first}).json()["pagination"]["next_cursor"]
    assert first == again


def test_a_next_url_that_leads_away(client: Client) -> None:
    answer = client.get("/items/next-url", params={"next_to": "http://198.51.100.7/steal"}).json()
    assert answer["next"] == "http://198.51.100.7/steal"


def test_links_stay_below_the_scheme_and_carry_no_key(client: Client) -> None:
    answer = client.get("/auth/api-key-query/items/link", params={"api_key": c.QUERY_API_KEY, "limit": "5"})
    following = answer.links["next"]["url"]
    assert following == f"{client.sandbox.url}/auth/api-key-query/items/link?limit=5&page=2"
