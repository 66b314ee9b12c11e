"""What a provider allows through its connections."""

from __future__ import annotations

from typing import Any

import pytest

from connections.gateway.allowance import check_allowed
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
