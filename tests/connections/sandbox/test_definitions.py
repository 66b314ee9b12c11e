"""The definitions open the sandbox: each validates, and its base URL is that of a scheme."""

from __future__ import annotations

from typing import Any

import pytest

from connections.sandbox import credentials as c
from connections.sandbox.authentication import CHECKS
from connections.sandbox.definitions import providers, signin_providers, vendor_providers
from external_apis import api_config
from tests.connections.sandbox.conftest import Client

ORIGIN = "http://127.0.0.1:8010"


def test_one_for_each_scheme() -> None:
    definitions = providers(ORIGIN + "/anything?x=1")
    assert sorted(d["slug"] for d in definitions) == sorted(f"sandbox-{scheme}" for scheme in CHECKS)
    assert len({d["name"] for d in definitions}) == len(definitions)
    assert all(d["environment"] == "development" and d["is_sandbox"] is True for d in definitions)


@pytest.mark.parametrize("definition", signin_providers(ORIGIN), ids=lambda d: d["slug"])
def test_each_sign_in_is_a_valid_configuration(definition: dict[str, Any]) -> None:
    api_config.parse(definition["api_config"], environment="development")
    assert ("connection" in definition) == (definition["api_config"]["auth_type"] == "client_credentials")


@pytest.mark.parametrize("definition", [*providers(ORIGIN), *vendor_providers(ORIGIN)], ids=lambda d: d["slug"])
def test_each_is_a_valid_configuration_with_the_credentials_it_expects(definition: dict[str, dict[str, str]]) -> None:
    config = api_config.parse(definition["api_config"], environment="development")
    assert set(definition["connection"]["credentials"]) <= config.credentials_expected()


def test_test_paths_exist(client: Client) -> None:
    for definition in providers(client.sandbox.url):
        config = definition["api_config"]
        path = config["base_url"].removeprefix(client.sandbox.url) + config["test_path"]
        assert client.get(path).status_code == (200 if config["auth_type"] == "none" else 401)


def test_callers_may_change_what_they_get() -> None:
    providers(ORIGIN)[0]["api_config"]["base_url"] = "changed"
    assert providers(ORIGIN)[0]["api_config"]["base_url"] == f"{ORIGIN}/auth/bearer"


def test_every_secret_is_long_enough_to_be_searched_for() -> None:
    assert all(len(secret) >= 20 for secret in c.SECRETS)
