"""The client that code asks for: it authenticates, limits, retries and follows redirects by itself.

A call is a loop of attempts under one deadline. Each attempt waits for a slot of the provider's limits, is signed
afresh, is sent through the guarded transport, and is classified; `RetryPolicy` decides whether there is another.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import connections as databases

from connections.client import slots, usage
from connections.client.answers import build_error, build_response
from connections.client.auth import make_scheme
from connections.client.composer import Composer
from connections.client.events import Event, Listener, redact
from connections.client.outgoing import Outgoing, refuse
from connections.client.redirects import MAX_REDIRECTS, next_request
from connections.client.retry import Clock, RetryPolicy, is_repeatable
from external_apis.errors import BadAnswer, CallError, RateLimited
from external_apis.ids import new_id
from external_apis.rate_limit import outbound_limits
from external_apis.transport import Answer, shared_transport

if TYPE_CHECKING:
    import requests

    from connections.client.target import Target
    from external_apis.transport import Transport

__all__ = ["DEFAULT_TIMEOUT_MS", "ApiClient"]

DEFAULT_TIMEOUT_MS = 30_000
_DEFAULT_DEADLINE_MS = 120_000
_LONGEST_MS = 86_400_000


@dataclass(slots=True)
class _Call:
    """One call on its way; times are on the client's clock."""

    request_id: str
    timeout: float
    deadline: float
    attempt: int = 0
    sent: int = 0
    hops: int = 0


class ApiClient:
    """Calls one provider through one connection; safe to share between threads.

    Every method returns a `requests.Response` for answers below 400 and raises the tree of `external_apis.errors`
    otherwise: `UpstreamError` and its kinds, `CallTimeout`, `ConnectFailed`, `BadAnswer`, `EgressRefused`,
    `RateLimited` when no slot comes free within the time-out, and `InvalidInput` for arguments that cannot be sent.
    """

    def __init__(
        self,
        target: Target,
        *,
        on_event: Listener | None = None,
        clock: Clock | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Raise `MissingCredential`, naming it, when the connection lacks what its auth type needs."""
        config = target.config
        self.target = target
        self._scheme = make_scheme(target)
        self._clock = clock or Clock()
        self.on_event = on_event
        self._transport = transport or shared_transport()
        self._composer = Composer(config)
        self._origin = self._composer.origin
        self._policy = RetryPolicy.of(config.retry_config)
        self._timeout_ms = config.timeout_ms or DEFAULT_TIMEOUT_MS
        limit = config.rate_limit
        scope_key = target.provider_id if limit and limit.scope == "provider" else target.connection_id
        self._limits = outbound_limits(limit, scope_key) if limit else ()

    def get(self, path: str, params: Any = None, **options: Any) -> requests.Response:
        return self.request("GET", path, params=params, **options)

    def post(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        return self.request("POST", path, data=data, **options)

    def put(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        return self.request("PUT", path, data=data, **options)

    def patch(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        return self.request("PATCH", path, data=data, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.request("DELETE", path, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        data: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        deadline_ms: int | None = None,
    ) -> requests.Response:
        """Make one call.

        ``path`` is appended to the provider's ``base_url``. ``data`` goes out in the provider's ``request_encoding``
        (bytes and text as they are), ``json`` as JSON whatever that is. ``timeout_ms`` bounds each attempt, from the
        connect to the last byte, and each wait for a slot (the provider's ``timeout_ms``, else 30 s);
        ``deadline_ms`` bounds all attempts and waits together (120 s, or the time-out if that is longer).
        """
        request = self._composer.compose(method, path, params, data, json, headers)
        timeout_ms = self._timeout_ms if timeout_ms is None else _checked_ms("timeout_ms", timeout_ms)
        deadline_ms = (
            max(_DEFAULT_DEADLINE_MS, timeout_ms) if deadline_ms is None else _checked_ms("deadline_ms", deadline_ms)
        )
        _give_back_database_connections()
        request_id = new_id("req")
        request.headers["X-Request-Id"] = request_id
        started = self._clock.monotonic()
        call = _Call(request_id, timeout_ms / 1000, started + deadline_ms / 1000)
        answer = self._count(request, call)
        return build_response(request, answer, self._clock.monotonic() - started)

    # --- one call ---

    def _count(self, request: Outgoing, call: _Call) -> Answer:
        is_error = True
        try:
            answer = self._call(request, call)
            is_error = False
        finally:
            if call.sent and self.target.connection_id:
                usage.record(self.target.connection_id, is_error=is_error, at=self._clock.now())
        return answer

    def _call(self, request: Outgoing, call: _Call) -> Answer:
        while True:
            call.attempt += 1
            try:
                return self._attempt(request, call)
            except CallError as error:
                _complete(error, call)
                self._tell("failure", call, reason=error.code, status=getattr(error, "upstream_status", None))
                wait = self._policy.wait_seconds(
                    error, call.attempt, is_repeatable=is_repeatable(request), chance=self._clock.chance()
                )
                if wait is None or self._clock.monotonic() + wait >= call.deadline:
                    raise
                reason = error.code
            self._tell("wait", call, seconds=wait, reason=reason)
            self._clock.sleep(wait)

    def _attempt(self, request: Outgoing, call: _Call) -> Answer:
        """Send the request and whatever its answers redirect to; raises `UpstreamError` for an error status."""
        until = min(self._clock.monotonic() + call.timeout, call.deadline)
        hop, is_at_home = request, True
        for call.hops in range(MAX_REDIRECTS + 1):
            # Credentials belong to the provider's origin. Whoever sends us abroad and back gets no signed request.
            is_at_home = is_at_home and hop.origin == self._origin
            if is_at_home:
                until += self._wait_for_slot(call)
            answer = self._send(hop, call, min(until, call.deadline), is_signed=is_at_home)
            if answer.status < 300:
                return answer
            if answer.status >= 400:
                raise build_error(
                    self.target.provider_slug,
                    answer,
                    now=self._clock.now(),
                    request_id=call.request_id,
                    attempts=call.attempt,
                )
            following = next_request(hop, answer, self.target.secrets())
            if following is None:
                return answer
            hop = following
        raise BadAnswer(f"{self._origin} redirected more than {MAX_REDIRECTS} times.", may_have_happened=True)

    def _send(self, request: Outgoing, call: _Call, until: float, *, is_signed: bool) -> Answer:
        signed = request
        if is_signed:
            signed = request.copy()
            self._scheme.sign(signed, self._clock.now())
        if self.on_event is not None:
            self._tell("redirect" if call.hops else "attempt", call, request=redact(request, signed))
        call.sent += 1
        started = self._clock.monotonic()
        answer = self._transport.send(
            signed.origin,
            signed.method,
            signed.target,
            signed.headers.as_dict(),
            signed.body,
            deadline=time.monotonic() + until - started,
        )
        self._tell("answer", call, seconds=self._clock.monotonic() - started, status=answer.status)
        return answer

    def _wait_for_slot(self, call: _Call) -> float:
        """Wait until the provider's limits have room and return for how long; raises `RateLimited`."""
        waited = 0.0
        until = min(self._clock.monotonic() + call.timeout, call.deadline)
        while self._limits and (wait := slots.take(self._limits)):
            if self._clock.monotonic() + wait > until:
                message = f"The rate limit of {self.target.name} gives no slot in time."
                raise RateLimited(message, retry_after_seconds=wait, details={"request_id": call.request_id})
            self._tell("wait", call, seconds=wait, reason="rate_limit")
            self._clock.sleep(wait)
            waited += wait
        return waited

    def _tell(self, kind: Any, call: _Call, **facts: Any) -> None:
        if self.on_event is not None:
            self.on_event(Event(kind, call.request_id, call.attempt, **facts))

    def __repr__(self) -> str:
        return f"<ApiClient {self.target.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An ApiClient holds secrets and is not pickled.")


def _checked_ms(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_MS:
        raise refuse(name, "is not a number of milliseconds above 0 and up to a day")
    return max(1, int(value))


def _complete(error: CallError, call: _Call) -> None:
    """Add what only the client knows to an error of the transport."""
    error.request_id, error.attempts = call.request_id, call.attempt
    error.may_have_happened = error.may_have_happened or call.hops > 0  # what redirects has had the request
    error.details |= {
        "request_id": call.request_id,
        "attempts": call.attempt,
        "may_have_happened": error.may_have_happened,
    }


def _give_back_database_connections() -> None:
    """Leave this thread's database connections to others while the upstream is waited for; open transactions stay."""
    for database in databases.all(initialized_only=True):
        if database.connection is not None and not database.in_atomic_block and database.autocommit:
            database.close()
