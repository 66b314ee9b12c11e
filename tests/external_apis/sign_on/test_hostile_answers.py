"""Answers and tokens that no honest provider sends: nobody gets in, and nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.test import Client

from external_apis.models import AuditEvent
from tests.external_apis.sign_on.conftest import CALLBACK, SignOn

pytestmark = pytest.mark.django_db

Make = Callable[..., SignOn]


@pytest.fixture
def flow(sign_on: Make) -> Iterator[SignOn]:
    made = sign_on()
    made.provider.add_user("eve", email="eve@example.com", email_verified=True, groups=["staff"])
    yield made
    made.provider.change_metadata()


def refused(flow: SignOn, answer: Any, status: int = 401) -> str:
    assert answer.status_code == status, answer.content
    assert SESSION_KEY not in flow.browser.session
    assert not User.objects.exists()
    assert not AuditEvent.objects.exists(), "a forged answer fills no log"
    text: str = answer.content.decode()
    assert "You are not signed in" in text
    assert "eyJ" not in text
    assert "Traceback" not in text
    return text


def without(path: str, **changes: str | None) -> str:
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changes
    return f"{parts.path}?{urlencode({name: value for name, value in query.items() if value is not None})}"


NOW = int(time.time())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"algorithm": "none"}, ""),
        ({"algorithm": "HS256"}, ""),
        ({"key": "foreign"}, "invalid signature"),
        ({"headers": {"kid": "unknown"}}, "invalid signature"),
        ({"aud": "somebody-else"}, "invalid claim"),
        ({"aud": ["us", "somebody-else"]}, "invalid claim"),
        ({"iss": "https://evil.example"}, "invalid claim"),
        ({"exp": NOW - 60}, "response expired"),
        ({"iat": NOW - 3600}, "response expired"),
        ({"nbf": NOW + 3600}, ""),
        ({"nonce": "of-another-attempt"}, "nonce mismatch"),
        ({"nonce": None}, "nonce mismatch"),
        ({"sub": None}, ""),
        ({"azp": "somebody-else"}, "invalid claim"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "invalid claim"),
    ],
)
def test_an_id_token_that_is_not_for_us_now_is_refused(flow: SignOn, change: dict[str, Any], reason: str) -> None:
    flow.provider.tamper(flow.registered, **change)
    assert reason in refused(flow, flow.sign_in("eve"))


def test_the_same_tokens_without_a_change_are_taken(flow: SignOn) -> None:
    flow.provider.tamper(flow.registered)
    assert flow.sign_in("eve").status_code == 302


def test_the_subject_of_user_info_has_to_be_the_tokens(flow: SignOn) -> None:
    flow.provider.tamper(flow.registered, sub="somebody-else")
    refused(flow, flow.sign_in("eve"))


def test_an_answer_counts_once_and_in_the_browser_that_asked(flow: SignOn) -> None:
    answer = flow.answer("eve")
    mine, flow.browser = flow.browser, Client()
    assert "session context missing" in refused(flow, flow.browser.get(answer))
    flow.browser = mine
    assert flow.browser.get(answer).status_code == 302
    flow.browser.post("/admin/logout/")
    assert flow.browser.get(answer).status_code == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"state": None},
        {"state": "made-up"},
        {"state": "x" * 5000},
        {"code": None},
        {"code": "made-up"},
        {"iss": None},
        {"iss": "https://evil.example"},
        {"error": "access_denied", "error_description": "<script>alert(1)</script>"},
    ],
)
def test_an_answer_that_was_changed_on_its_way_is_refused(flow: SignOn, changes: dict[str, str | None]) -> None:
    text = refused(flow, flow.browser.get(without(flow.answer("eve"), **changes)))
    assert "<script>" not in text


def test_two_tabs_do_not_disturb_each_other(flow: SignOn) -> None:
    first, second = flow.answer("eve"), flow.answer("eve")
    assert flow.browser.get(first).status_code == 302
    assert flow.browser.get(second).status_code == 302


def test_a_code_without_its_proof_key_is_worth_nothing(flow: SignOn) -> None:
    query = parse_qs(urlsplit(flow.begin()).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"][0].endswith(CALLBACK)
    assert {"state", "nonce", "code_challenge"} <= set(query)


@pytest.mark.parametrize("page", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_sent_to_another_site(flow: SignOn, page: str) -> None:
    answer = flow.sign_in("eve", f"/admin/sign-on?{urlencode({'next': page})}")
    assert answer["Location"] == "/admin/"


def test_metadata_of_another_issuer_are_refused(flow: SignOn) -> None:
    flow.provider.change_metadata(issuer="https://evil.example")
    assert "is of another issuer" in refused(flow, flow.browser.get("/admin/sign-on"), 502)
    flow.provider.change_metadata(authorization_endpoint=None)
    assert flow.browser.get("/admin/sign-on").status_code == 401


def test_endpoints_inside_the_network_are_out_of_reach(flow: SignOn) -> None:
    """The operator has named the issuer's host, not whatever else its document names."""
    answer = flow.answer("eve")
    flow.provider.change_metadata(token_endpoint="http://127.0.0.1:1/token")
    assert "is refused" in refused(flow, flow.browser.get(answer), 502)


def test_the_provider_being_away_is_said(flow: SignOn, settings: Any) -> None:
    settings.OIDC_ISSUER = "http://127.0.0.1:1"
    assert "127.0.0.1:1" in refused(flow, flow.browser.get("/admin/sign-on"), 502)


def test_without_a_provider_there_is_no_such_page(flow: SignOn, settings: Any) -> None:
    settings.OIDC_ISSUER = ""
    assert flow.browser.get("/admin/sign-on").status_code == 404
    assert flow.browser.get(CALLBACK).status_code == 404


def test_a_rotated_key_counts_at_once(flow: SignOn) -> None:
    flow.provider.rotate_key(keep_old=False)
    assert flow.sign_in("eve").status_code == 302
