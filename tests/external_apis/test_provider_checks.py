"""What ``manage.py check --database default`` says of providers that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from external_apis.models import ExternalApi
from external_apis.provider_checks import check_providers
from external_apis.providers import delete_external_api
from tests.factories import make_provider

pytestmark = pytest.mark.django_db

URLS = {"authorization_url": "https://a.example.com/a", "token_url": "https://a.example.com/t"}
OAUTH2 = {"auth_type": "oauth2", "oauth2": URLS}


def stored(config: dict[str, Any], **fields: Any) -> ExternalApi:
    """A row as somebody might leave it past the services."""
    api = make_provider(**fields)
    ExternalApi.objects.filter(pk=api.pk).update(api_config={**api.api_config, **config})
    return api


def said(**options: Any) -> list[tuple[str | None, str]]:
    return [(message.id, message.msg) for message in check_providers(databases=["default"], **options)]


@pytest.mark.parametrize(
    ("config", "number", "problem"),
    [
        ({**OAUTH2, "oauth2": {**URLS, "token_url": ""}}, 1, "oauth2 without oauth2.token_url gets no token"),
        ({"auth_type": "oauth2"}, 1, "oauth2 without oauth2.token_url"),
        ({"auth_type": "client_credentials", "client_credentials": None}, 1, "client_credentials.token_url"),
        ({"base_url": "http://api.example.com"}, 2, "base_url uses http"),
        ({**OAUTH2, "oauth2": {**URLS, "token_url": "http://a.example.com/t"}}, 2, "oauth2.token_url uses http"),
        ({"default_headers": {"X-Shop": "{shop}"}}, 3, "the unknown placeholder {shop}"),
        ({"also": {"headers": {"X-Key": "{API-KEY}"}}}, 4, "api_config.also.headers"),
        ({"auth_type": "telepathy"}, 4, "api_config.auth_type"),
        ({"base_url": None}, 4, "api_config.base_url"),
    ],
)
def test_what_cannot_work_is_named(config: dict[str, Any], number: int, problem: str) -> None:
    api = stored(config, slug="broken")
    make_provider(api_config=OAUTH2)
    ((identity, message),) = said()
    assert identity == f"external_apis.W00{number}"
    assert message.startswith(f"Provider broken ({api.pk}) cannot work: ")
    assert problem in message


def test_what_works_or_is_not_used_is_not_named(django_assert_num_queries: Any) -> None:
    make_provider()
    make_provider(api_config={"base_url": "http://localhost:1"}, environment="development")
    make_provider(api_config={"default_headers": {"X-Json": '{"a": {}}'}})
    stored({"auth_type": "oauth2"}, status="inactive")
    delete_external_api(stored({"auth_type": "oauth2"}))
    with django_assert_num_queries(1):
        assert said() == []


def test_only_a_check_of_the_database_asks_it(
    django_assert_num_queries: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stored({"auth_type": "oauth2"}, slug="broken")
    with django_assert_num_queries(0):
        assert not [message for message in run_checks() if "broken" in message.msg]
    call_command("check", "--database", "default")
    assert "Provider broken" in capsys.readouterr().err
