"""Connections that play canned answers, and record what was sent to them."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

from urllib3 import HTTPHeaderDict

from connections import warm
from connections.client import ApiClient, Clock, Target
from external_apis import api_config
from external_apis.api_config import ApiConfig
from external_apis.catalogue.presets import presets
from external_apis.crypto import Secrets
from external_apis.transport import Answer, Origin, Transport, Upload

__all__ = ["Calls", "Canned", "Sent", "fake_connection", "replacing"]

_GENERIC = {"base_url": "https://api.example.com", "auth_type": "bearer"}
_MORE_CREDENTIALS = ("client_id", "client_secret", "consumer_key", "consumer_secret")


@dataclass(frozen=True)
class Canned:
    """One answer: ``json`` or ``body`` with a status and headers."""

    status: int = 200
    json: Any = None
    body: bytes | str = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """One request as it would have gone over the wire, the credential included."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


Answers = Iterable[Any] | Callable[["Sent"], Any]
"""Each answer is a status, a body, JSON, a `Canned`, or an error that is raised as the transport would raise it."""


class Calls(list[Sent]):
    """What was sent, in order; ``waits`` holds the seconds that were not slept."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    @property
    def clock(self) -> Clock:
        """A clock that sleeping only moves on."""
        return Clock(
            monotonic=lambda: time.monotonic() + sum(self.waits),
            now=lambda: time.time() + sum(self.waits),
            sleep=self.waits.append,
        )


class _Player(Transport):
    """Plays answers instead of calling anybody."""

    def __init__(self, calls: Calls, answers: Answers) -> None:
        self._calls = calls
        self._answer = answers if callable(answers) else None
        self._answers = iter(()) if callable(answers) else iter(answers)

    def send(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Upload | None,
        *,
        deadline: float,
        **_bounds: Any,
    ) -> Answer:
        content = b"".join(body.pieces()) if isinstance(body, Upload) else body or b""
        sent = Sent(method, f"{origin}{target}", dict(headers), content)
        self._calls.append(sent)
        return _build(self._answer(sent) if self._answer else self._next(sent))

    def _next(self, sent: Sent) -> Any:
        try:
            return next(self._answers)
        except StopIteration:
            raise AssertionError(f"No answer is left for {sent.method} {sent.path}.") from None


@contextmanager
def fake_connection(
    reference: str,
    answers: Answers = (),
    *,
    config: Mapping[str, Any] | None = None,
    credentials: Mapping[str, str] | None = None,
    provider_data: Mapping[str, Any] | None = None,
) -> Iterator[Calls]:
    """Let ``get_api_client(reference)`` give out a client that plays ``answers``; yields the list of what is sent.

    The client is the real one, with its signing, retries and errors, but waits for nothing, and asks neither database
    nor Valkey. ``answers`` are played in order, or made by a function from what was sent; one too few is an
    AssertionError. ``config`` is an ``api_config``; without one it is the shipped preset of the slug, or a bearer
    provider at https://api.example.com. Credentials that are not given are called ``test-<name>``. A rate limit is
    left out.
    """
    slug, _, connection_slug = reference.partition("/")
    preset = presets().get(slug) if config is None else None
    parsed = api_config.parse(config or (preset.api_config if preset else _GENERIC), environment="")
    target = Target(
        provider_id="",
        provider_slug=slug,
        connection_id="",
        connection_slug=connection_slug or "default",
        config=parsed.model_copy(update={"rate_limit": None}),
        credentials=Secrets(_make_credentials(parsed) if credentials is None else credentials),
        provider_data=provider_data or {},
    )
    calls = Calls()
    player = _Player(calls, answers)
    with replacing(reference, lambda: ApiClient(target, clock=calls.clock, transport=player)):
        yield calls


@contextmanager
def replacing(reference: str, make_client: Callable[[], ApiClient]) -> Iterator[None]:
    """Let ``get_api_client(reference)`` give out what ``make_client`` makes, whoever asks for it."""
    original = warm.open_client

    def open_client(asked: str, *who: str | None) -> ApiClient:
        return make_client() if asked == reference else original(asked, *who)

    with mock.patch.object(warm, "open_client", open_client):
        yield


def _make_credentials(config: ApiConfig) -> dict[str, str]:
    return {name: f"test-{name}" for name in (*sorted(config.credentials_expected()), *_MORE_CREDENTIALS)}


def _build(answer: Any) -> Answer:
    if isinstance(answer, BaseException):
        raise answer
    if isinstance(answer, int):
        answer = Canned(answer)
    elif isinstance(answer, str | bytes):
        answer = Canned(body=answer)
    elif not isinstance(answer, Canned):
        answer = Canned(json=answer)
    body = answer.body.encode() if isinstance(answer.body, str) else answer.body
    headers = HTTPHeaderDict(answer.headers)
    if answer.json is not None:
        body = json_module.dumps(answer.json).encode()
        headers.setdefault("Content-Type", "application/json")
    return Answer(answer.status, "", headers, body)
