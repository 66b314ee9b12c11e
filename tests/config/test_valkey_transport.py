"""Channels whose server goes away: closing them is no error that would end a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

import config.broker  # noqa: F401 (names the transport)
from config import valkey_transport
from tests.connections.webhooks.inbound.test_outage import Valkey


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    made = Valkey(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.mark.parametrize("is_away", [True, False])
def test_a_channel_that_holds_messages_is_closed_after_its_connection(server: Valkey, is_away: bool) -> None:
    connection = Connection(f"redis://127.0.0.1:{server.port}/0")
    assert isinstance(connection.transport, valkey_transport.Transport)
    queue = connection.SimpleQueue("tests")
    queue.put("one")
    assert not queue.get(timeout=5).acknowledged
    if is_away:
        server.kill()
    # So a worker finds it whose first attempt to close the channel has failed half-way.
    connection.default_channel._disconnect_pools()  # type: ignore[attr-defined]
    connection._do_close_transport()
    connection.release()
    if not is_away:
        assert server.client().hlen("unacked") == 1, "it comes back after the time that Celery gives it"
