"""What a provider allows through its connections."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections.gateway.allowance import _matches, check_allowed
from external_apis.api_config import parse
from external_apis.call_config import Proxy
from external_apis.errors import Forbidden, InvalidConfiguration

RULES = Proxy(methods=["GET", "POST"], paths=["/charges", "/reports/**", "/users/*/name"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/charges"),
        ("HEAD", "/charges"),
        ("POST", "/reports/2026/01"),
        ("GET", "/reports/"),
        ("GET", "/users/a%20b/name"),
    ],
)
def test_what_a_pattern_matches_passes(method: str, path: str) -> None:
    check_allowed(RULES, method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/charges"),
        ("OPTIONS", "/charges"),
        ("GET", "/charges/1"),
        ("GET", "/Charges"),
        ("GET", "/reports"),
        ("GET", "/users/a/b/name"),
        ("GET", "/users/a%2Fb/name"),
        ("GET", "/users/a%252Fb/name"),
        ("GET", "/charges\n"),
    ],
)
def test_the_rest_does_not(method: str, path: str) -> None:
    with pytest.raises(Forbidden):
        check_allowed(RULES, method, path)


def test_without_rules_everything_passes() -> None:
    check_allowed(None, "DELETE", "/anything")
    check_allowed(Proxy(), "DELETE", "/anything")


@pytest.mark.parametrize("block", [{"methods": ["TRACE"]}, {"paths": ["charges"]}, {"paths": ["/a b"]}, {"other": 1}])
def test_a_malformed_block_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfiguration, match="proxy"):
        parse({"base_url": "https://api.example.com", "auth_type": "none", "proxy": block})


@given(st.text("a/*", max_size=7), st.text("a/b", max_size=9))
def test_patterns_match_as_a_regular_expression_would(pattern: str, path: str) -> None:
    expected = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    assert _matches(pattern, path) == bool(re.fullmatch(expected, path, re.DOTALL))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/" + "**a" * 50 + "z", "/" + "a" * 12_000),
        ("/" + "*a" * 50 + "z", "/" + "a" * 12_000),
        ("/reports/**/items/**/lines/**/end", "/reports" + "/items/lines" * 1_000),
        ("/**/*/**/*/**/x", "/y" * 6_000),
    ],
)
def test_no_pattern_holds_up_the_process(pattern: str, path: str) -> None:
    began = time.process_time()
    assert not _matches(pattern, path)
    assert time.process_time() - began < 0.5
