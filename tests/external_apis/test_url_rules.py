"""Base URLs: what is refused when it is stored would otherwise fail, or lead elsewhere, when it is called."""

from __future__ import annotations

import pytest
from urllib3.util import parse_url

from external_apis.url_rules import base_url_problem


@pytest.mark.parametrize(
    "url",
    [
        "https://%00.com/a/../b",
        "https://%00.com/x",
        "https://ex%61mple.com",
        "https://..",
        "https://a..b",
        "https://.example.com",
        "https://example.com.",
        "https://-a.example.com",
        f"https://{'a' * 64}.example.com",
        f"https://{'a.' * 130}com",
        "https://exa$mple.com",
        "https://exa,mple.com",
        "https://bücher.example",
        "https://[::1%25eth0]/",
        "https://[v1.x]/",
        "https://example.com/a/../b",
        "https://example.com/..",
        "https://example.com/./a",
        "https://example.com/a/.",
        "https://example.com/a/%2e%2E/b",
        "https://example.com/a/%252e%252e/b",
        "https://example.com/%5c../b",
        "https://example.com/\ud800",
    ],
)
def test_what_no_client_could_call_is_refused(url: str) -> None:
    assert base_url_problem(url, https_only=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://API.example.com:8443/v1/",
        "https://my_service.internal/a.b/..c/%20",
        "https://xn--bcher-kva.example/",
        "https://203.0.113.7/v1",
        "https://[2001:db8::1]:8443/v1",
        "https://localhost",
    ],
)
def test_ordinary_ones_are_fine_and_can_be_parsed(url: str) -> None:
    assert base_url_problem(url, https_only=True) is None
    assert parse_url(url).host
