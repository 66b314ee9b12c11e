"""Clients against the sandbox, under a clock that nobody waits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

import pytest

from connections.client import ApiClient, Clock, Event, Target
from connections.sandbox import definitions
from external_apis.api_config import parse
from external_apis.crypto import Secrets
from tests.sandbox import Sandbox, sandbox

__all__ = ["sandbox"]


@dataclass
class FakeTime:
    """Sleeping moves the time on; what was slept is kept."""

    at: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)
    chance: float = 0.5

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.at, now=lambda: self.at, sleep=self.sleep, chance=lambda: self.chance)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def events() -> list[Event]:
    return []


def make_target(config: dict[str, Any], credentials: dict[str, str], connection_id: str = "") -> Target:
    return Target(
        provider_id=f"ext_api_{uuid4().hex}",
        provider_slug="acme",
        connection_id=connection_id or f"conn_{uuid4().hex}",
        connection_slug="default",
        config=parse(config, environment="development"),
        credentials=Secrets(credentials),
    )


class MakeClient(Protocol):
    def __call__(
        self, scheme: str = "none", *, credentials: dict[str, str] | None = None, **config: Any
    ) -> ApiClient: ...


@pytest.fixture
def allow_loopback(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]


@pytest.fixture
def make_client(sandbox: Sandbox, allow_loopback: None, fake_time: FakeTime, events: list[Event]) -> MakeClient:
    """Make a client for a scheme of the sandbox; ``config`` changes the provider, ``credentials`` replace its own.

    Signatures need the real time: such a test passes ``clock`` itself.
    """
    known = {body["slug"].removeprefix("sandbox-"): body for body in definitions.providers(sandbox.url)}

    def make(scheme: str = "none", *, credentials: dict[str, str] | None = None, **config: Any) -> ApiClient:
        clock = config.pop("clock", fake_time.clock)
        body = known[scheme]
        secrets = body["connection"]["credentials"] if credentials is None else credentials
        target = make_target({**body["api_config"], **config}, secrets)
        return ApiClient(target, clock=clock, on_event=events.append)

    return make
