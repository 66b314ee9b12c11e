"""Connections to the sandbox, and keys that may call through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from connections.sandbox import definitions
from tests.sandbox import Sandbox

if TYPE_CHECKING:
    from connections.models import ExternalApiConnection
    from tests.rest import RestClient


@pytest.fixture(autouse=True)
def _nothing_of_another_test() -> Iterator[None]:
    # pytest reads this file before there are settings, which these modules need.
    from connections.gateway import credit
    from connections.gateway.bulkhead import bulkhead
    from external_apis import kept_keys, throttling

    yield
    kept_keys.forget()
    credit.forget()
    throttling._meter.cache_clear()
    bulkhead.cache_clear()


class Connect(Protocol):
    def __call__(self, scheme: str = "bearer", path: str = "", **config: Any) -> ExternalApiConnection: ...


@pytest.fixture
def connect(sandbox: Sandbox, settings: Any, db: None) -> Connect:
    """Make a connection to a scheme of the sandbox; ``path`` extends the base URL, ``config`` changes the provider."""
    from tests.factories import make_connection, make_provider

    settings.EGRESS_ALLOW = ["127.0.0.1"]
    known = {body["slug"].removeprefix("sandbox-"): body for body in definitions.providers(sandbox.url)}

    def make(scheme: str = "bearer", path: str = "", **config: Any) -> ExternalApiConnection:
        tenant = config.pop("tenant", None)
        is_sandbox = config.pop("is_sandbox", False)
        body = known[scheme]
        data = {**body["api_config"], **config}
        data["base_url"] = config.get("base_url", body["api_config"]["base_url"]) + path
        data.setdefault("retry_config", {"backoff_ms": 1, "jitter_ms": 0})
        api = make_provider(api_config=data, environment="development", is_sandbox=is_sandbox)
        return make_connection(api, credentials=body["connection"]["credentials"], tenant=tenant)

    return make


@pytest.fixture
def token(db: None) -> str:
    """A key that may do nothing but call."""
    from tests.factories import make_key

    return make_key(scopes=["proxy"]).token


@pytest.fixture
def caller(token: str) -> RestClient:
    from tests.rest import RestClient

    return RestClient(headers={"Authorization": f"Bearer {token}"})


def proxied(row: ExternalApiConnection, path: str) -> str:
    return f"/api/external/proxy/{row.pk}{path}"
