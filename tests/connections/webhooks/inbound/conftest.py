"""What every test of inbound webhooks begins with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_providers_or_handlers_of_another_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from connections.webhooks.inbound import handlers, receivers, refusals
    from tests.inbound import forget_sweeps

    receivers.forget()
    monkeypatch.setattr(handlers, "_handlers", [])
    monkeypatch.setattr(refusals, "_PAUSE_SECONDS", 0.01)
    yield
    refusals.flush(10)
    forget_sweeps()
