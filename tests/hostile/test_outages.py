"""PostgreSQL and Valkey stopped and started again under the running product."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.factories import provider_body
from tests.rest import PROVIDERS

if TYPE_CHECKING:
    from tests.hostile.conftest import Product

_BOUND_SECONDS = 12


def _assert_unavailable(product: Product, path: str, method: str = "GET") -> None:
    began = time.monotonic()
    status, content_type, text = product.ask(path, method, provider_body() if method == "POST" else None)
    assert time.monotonic() - began < _BOUND_SECONDS
    assert (status, content_type) == (503, "application/json"), text
    assert json.loads(text)["error"]["code"] == "SERVICE_UNAVAILABLE"


def _assert_page(product: Product) -> None:
    """A page of the admin whose session cannot be read."""
    status, content_type, text = product.ask("/admin/", Cookie="external_apis_session=" + "a" * 32)
    assert (status, content_type.partition(";")[0]) == (503, "text/html")
    assert "The database is unavailable." in text


def test_outages_are_told_and_survived(product: Product) -> None:
    with ExitStack() as stack:
        first = ExitStack()
        servers = {server.name.lower(): server for server in first.enter_context(product.servers())}
        stack.push(first)
        product.manage("migrate", "-v", "0")
        stack.enter_context(product.web())
        assert product.ask(PROVIDERS, "POST", provider_body(slug="before"))[0] == 201

        valkey = servers["valkey"].process
        valkey.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert product.ask(PROVIDERS)[0] == 200
        assert product.ask("/healthz")[0] == 503
        assert time.monotonic() - began < _BOUND_SECONDS
        valkey.send_signal(signal.SIGCONT)
        product.wait_for("/healthz", 200)

        postgres = servers["postgresql"]
        postgres.process.send_signal(postgres.stop_signal)
        postgres.process.wait(20)
        # At once: each waits some seconds for the database.
        with ThreadPoolExecutor() as pool:
            for outcome in [
                pool.submit(_assert_unavailable, product, PROVIDERS),
                pool.submit(_assert_unavailable, product, PROVIDERS, "POST"),
                pool.submit(_assert_page, product),
            ]:
                outcome.result()
        status, content_type, text = product.ask("/healthz")
        assert (status, content_type) == (503, "application/json")
        assert json.loads(text)["checks"]["database"] == "unavailable"

        first.close()
        assert json.loads(product.ask("/healthz")[2])["checks"]["valkey"] == "unavailable"

        stack.enter_context(product.servers())
        product.wait_for("/healthz", 200)
        product.wait_for(PROVIDERS, 200)
        assert product.ask(PROVIDERS, "POST", provider_body(slug="after"))[0] == 201
        slugs = [item["slug"] for item in json.loads(product.ask(PROVIDERS)[2])]
        assert slugs == ["after", "before"]
