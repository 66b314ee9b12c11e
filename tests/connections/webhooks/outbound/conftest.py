"""Receivers of webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.webhook_receiver import Receiver


@pytest.fixture
def make_receiver(settings: Any) -> Iterator[Callable[[], Receiver]]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    from tests.webhook_receiver import Receiver  # models, once settings are there

    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(make_receiver: Callable[[], Receiver]) -> Receiver:
    return make_receiver()
