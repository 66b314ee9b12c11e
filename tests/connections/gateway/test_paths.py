"""Paths: what leads somewhere else is refused, whatever it is written like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections.gateway.paths import read_route
from connections.wire.paths import join_path
from external_apis.errors import InvalidInput


@pytest.mark.parametrize(
    ("tail", "base", "path"),
    [
        ("", "/v1", "/"),
        ("/", "/v1", "/"),
        ("/charges", "/v1", "/charges"),
        ("/charges/", "/v1", "/charges/"),
        ("/v1/charges", "/v1", "/charges"),
        ("/v1/charges", "/v1/", "/charges"),
        ("/v1", "/v1", "/"),
        ("/v12/charges", "/v1", "/v12/charges"),
        ("/v1/charges", "", "/v1/charges"),
        ("/a?b#c", "", "/a%3Fb%23c"),
        ("/projects/a%2Fb", "", "/projects/a%2Fb"),
        ("/x;v=1/@me/~", "", "/x;v=1/@me/~"),
        ("/ümläut", "", "/ümläut"),
        ("/...", "", "/..."),
    ],
)
def test_a_path_stands_below_the_base_url(tail: str, base: str, path: str) -> None:
    assert read_route(tail, "", base).path == path


@pytest.mark.parametrize(
    "tail",
    [
        "/..",
        "/a/../b",
        "/a/./b",
        "/..;/b",
        "/%2e%2e/b",
        "/%252e%252e/b",
        "/%25252e%25252e/b",
        "/a%2f..%2fb",
        "/a/%2e./b",
        "//evil.example/a",
        "/a//b",
        "/https://evil.example/",
        "/http://user:password@evil.example/",
        "/a\\b",
        "/a%5cb",
        "/a\r\nHost: evil.example",
        "/a%0d%0aHost: evil.example",
        "/a%250aX: y",
        "/a\0b",
        "/%c0%ae%c0%ae/b",
        "/a%ff",
        "/%" + "25" * 30 + "2e",
    ],
)
def test_tricks_are_refused(tail: str) -> None:
    with pytest.raises(InvalidInput):
        read_route(tail, "", "/v1")


@given(st.text(st.sampled_from("./%25efc0aAZ;\\@:?#\r\n \0ü"), max_size=40))
def test_whatever_passes_stays_below_the_base_url(tail: str) -> None:
    try:
        route = read_route(tail, "", "/v1")
        target = join_path("/v1", route.path)
    except InvalidInput:
        return
    assert target.startswith("/v1/")
    assert target.isascii()
    assert target.isprintable()
    assert not {"?", "#", " ", "\\"} & set(target)
    assert ".." not in target.replace(";", "/").split("/")


@pytest.mark.parametrize(
    ("query", "left", "is_dry_run"),
    [
        ("", "", False),
        ("a=b%20c&a=d", "a=b%20c&a=d", False),
        ("dry_run=curl", "", True),
        ("a=1&dry_run=curl&b=2", "a=1&b=2", True),
        ("dry%5Frun=all", "dry%5Frun=all", False),
        ("dry_runs=all", "dry_runs=all", False),
    ],
)
def test_the_query_stays_as_it_is_but_for_our_own_parameter(query: str, left: str, is_dry_run: bool) -> None:
    route = read_route("/a", query, "")
    assert (route.query, route.is_dry_run) == (left, is_dry_run)


@pytest.mark.parametrize(
    "query", ["dry_run=python", "dry_run=", "dry_run", "a=1&dry_run=true", "dry_run=curl&dry_run=x"]
)
def test_whoever_asks_for_another_dry_run_does_not_get_a_real_one(query: str) -> None:
    with pytest.raises(InvalidInput, match="dry_run is none but 'curl'"):
        read_route("/a", query, "")
