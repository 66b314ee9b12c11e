"""Whoever may not read credentials cannot have them sent to a host of their own, over none of the three APIs."""

from __future__ import annotations

from typing import Any

import pytest

from external_apis.destinations import destinations
from external_apis.models import ExternalApi
from tests.envelope import EXTERNAL
from tests.exsvc import SERVICES, bearer
from tests.factories import make_connection, make_key, make_provider
from tests.grants import oauth2_config
from tests.rest import PROVIDERS, error_of

OAUTH2 = oauth2_config("https://auth.example.com")


@pytest.mark.parametrize(
    ("change", "is_moved"),
    [
        ({"base_url": "https://evil.example.net"}, True),
        ({"base_url": "http://auth.example.com"}, True),
        ({"base_url": "https://auth.example.com:8443"}, True),
        ({"base_url": "https://auth.example.com@evil.example.net"}, True),
        ({"oauth2": {**OAUTH2["oauth2"], "token_url": "https://evil.example.net/token"}}, True),
        ({"oauth2": {**OAUTH2["oauth2"], "revocation_url": "https://evil.example.net/revoke"}}, True),
        ({"oauth2": {**OAUTH2["oauth2"], "redirect_uri": "https://evil.example.net/callback"}}, True),
        ({"url_variables": {"shop": {"pattern": ".*"}}}, True),
        ({"base_url": "https://AUTH.example.com/v2", "api_version": "v2"}, False),
        ({"test_path": "/me"}, False),
    ],
)
def test_what_moves(change: dict[str, Any], is_moved: bool) -> None:
    assert bool(destinations({**OAUTH2, **change}) - destinations(OAUTH2)) is is_moved


# Path, body, and the scope that changes it.
WAYS = [
    (f"{PROVIDERS}/{{}}", lambda url: {"api_config": {"base_url": url}}, "providers:write"),
    (f"{EXTERNAL}/providers/{{}}", lambda url: {"apiConfig": {"base_url": url}}, "providers:write"),
    (f"{SERVICES}/{{}}", lambda url: {"base_url": url}, "services:write"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "body", "scope"), WAYS, ids=[way[0].split("/")[1] for way in WAYS])
def test_stored_credentials_stay_where_they_are_sent(path: str, body: Any, scope: str) -> None:
    writer = bearer(make_key(scopes=[scope, "connections:write"]).token)
    reader = bearer(make_key(scopes=[scope, "credentials:read"]).token)
    bare = make_provider(api_config={"auth_type": "bearer", "base_url": "https://api.example.com"})
    where = path.format(bare.pk)
    assert writer.send("patch", where, body("https://corrected.example.com")).status_code == 200
    make_connection(bare, credentials={"access_token": "swordfish"})
    response = writer.send("patch", where, body("https://evil.example.net"))
    assert response.status_code == 403
    assert "credentials:read" in response.content.decode()
    assert ExternalApi.objects.get(pk=bare.pk).api_config["base_url"] == "https://corrected.example.com"
    assert writer.send("patch", where, body("https://corrected.example.com/v2")).status_code == 200
    assert reader.send("patch", where, body("https://moved.example.com")).status_code == 200


@pytest.mark.django_db
def test_secrets_of_the_provider_itself_count_too() -> None:
    writer = bearer(make_key(scopes=["providers:write"]).token)
    api = make_provider(api_config=OAUTH2)
    change = {"api_config": {"oauth2": {"token_url": "https://evil.example.net/token"}}}
    assert error_of(writer.send("patch", f"{PROVIDERS}/{api.pk}", change)) == (403, "FORBIDDEN")
