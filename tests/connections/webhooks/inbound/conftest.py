"""What every test of inbound webhooks begins with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_providers_or_handlers_of_another_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from connections.webhooks.inbound import handlers, receivers, refusals
    from external_apis import valkey

    receivers.forget()
    monkeypatch.setattr(handlers, "_handlers", [])
    monkeypatch.setattr(refusals, "_PAUSE_SECONDS", 0.01)
    yield
    refusals.flush(10)
    # Sweeps that a test has killed would keep the next one's events for as long as the slots live.
    store = valkey.client()
    store.delete("none", *store.scan_iter(f"{valkey.PREFIX}sweep:*process_webhook_events*"))
