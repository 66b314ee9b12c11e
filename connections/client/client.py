"""The client that code asks for: it authenticates, limits, retries and follows redirects by itself.

A call is a loop of attempts under one deadline. Each attempt waits for a slot of the provider's limits, is signed
afresh, is sent through the guarded transport, and is classified; `RetryPolicy` decides whether there is another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from connections.client.answers import MAX_ERROR_BODY_BYTES, build_error, build_response
from connections.client.auth import make_scheme, read_certificate
from connections.client.call import Call
from connections.client.composer import Composer
from connections.client.dry_run import build_curl
from connections.client.events import Event, Listener, redact
from connections.client.observing import observe, observe_bytes
from connections.client.outcomes import Outcomes
from connections.client.outgoing import Outgoing
from connections.client.pace import read_pause
from connections.client.passage import Passage, preview
from connections.client.redirects import MAX_REDIRECTS, added_by_signing, next_request
from connections.client.retry import Clock, RetryPolicy
from connections.client.slots import Lane
from connections.client.verbs import Priority, Verbs
from connections.wire.arguments import check_ms, refuse
from external_apis import request_context
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import (
    ApiManagerError,
    BadAnswer,
    CallError,
    InvalidInput,
    RateLimited,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamUnauthorized,
)
from external_apis.ids import new_id
from external_apis.transport import MAX_BODY_BYTES, MAX_STREAM_BYTES, Answer, shared_transport

if TYPE_CHECKING:
    import requests

    from connections.client.outcomes import Verdict
    from connections.client.target import Target
    from connections.wire.graphql import Reader
    from external_apis.transport import Transport

__all__ = ["DEFAULT_TIMEOUT_MS", "ApiClient"]

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_MS = 30_000
_DEFAULT_DEADLINE_MS = 120_000


class ApiClient(Verbs, Passage):
    """Calls one provider through one connection; safe to share between threads.

    `request` returns a `requests.Response` for answers below 400 and raises the tree of `external_apis.errors`
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
        refresh: Callable[[], Target] | None = None,
    ) -> None:
        """Take ``refresh``, which renews the credential and returns the target with it; it is called once for a call.

        Raise `MissingCredential`, naming it, when the connection lacks what its auth type needs, and `InvalidInput` for
        a URL variable that its ``provider_data`` lacks.
        """
        config = target.config
        self.target = target
        self._scheme = make_scheme(target)
        self._clock = clock or Clock()
        self.on_event = on_event
        self._refresh = refresh
        self._refreshing = threading.Lock()
        certificate = read_certificate(target)
        self._has_certificate = certificate is not None
        self._transport = transport or shared_transport(certificate=certificate)
        self._transport_abroad = transport or shared_transport()
        self._composer = Composer(config, target.variables())
        self._origin = self._composer.origin
        self._policy = RetryPolicy.of(config.retry_config)
        self._outcomes = Outcomes(
            config.response_rules, config.retry_config.retry_statuses if config.retry_config else ()
        )
        self._timeout_ms = config.timeout_ms or DEFAULT_TIMEOUT_MS
        self._lane = Lane(target, self._composer.base_path)

    @property
    def base_path(self) -> str:
        """The path of the provider's base URL, its variables filled in."""
        return self._composer.base_path

    @property
    def idempotency_header(self) -> str | None:
        """The header in which the provider takes idempotency keys, where it is configured with one."""
        return self._policy.idempotency_header

    @property
    def covers_body(self) -> bool:
        """Whether the signature covers the body, which then has to be in memory before it is sent."""
        return self._scheme.covers_body

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
        priority: Priority = "interactive",
        stream: bool = False,
        max_body_bytes: int | None = None,
    ) -> requests.Response:
        """Make one call.

        ``path`` is appended to the provider's ``base_url``. ``data`` goes out in the provider's ``request_encoding``
        (bytes and text as they are, a file or an iterator of bytes piece by piece), ``json`` as JSON whatever that is.
        ``timeout_ms`` bounds each attempt, from the connect to the last byte, and each wait for a slot (the provider's
        ``timeout_ms``, else 30 s); ``deadline_ms`` bounds all attempts and waits together (the provider's
        ``retry_config.deadline_ms``, else 120 s, or the time-out if that is longer). A ``batch`` call takes no slot of
        a rate limit while others wait for one.

        With ``stream`` the body is left to ``iter_content`` or ``raw`` of the response, and has until the deadline;
        close the response, or use it as a context manager. An answer longer than ``max_body_bytes`` is an error (10
        MiB, of a stream 16 GiB).
        """
        request = self._composer.compose(method, path, params, data, json, headers)
        return self._perform(request, timeout_ms, deadline_ms, priority, stream, max_body_bytes)

    def follow(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        deadline_ms: int | None = None,
        priority: Priority = "interactive",
        max_body_bytes: int | None = None,
    ) -> requests.Response:
        """GET a URL that an answer of the provider named, such as its next page; raises `EgressRefused` elsewhere."""
        request = self._composer.compose_url(url, headers)
        return self._perform(request, timeout_ms, deadline_ms, priority, max_body_bytes=max_body_bytes)

    def dry_run(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Return the curl command of a call, with shell variables for all secrets. Nothing is sent or counted."""
        return self._show(self._composer.compose(method, path, params, data, json, headers))

    def _show(self, request: Outgoing) -> str:
        signed = request.copy()
        self._scheme.sign(signed, self._clock.now())
        return build_curl(
            request,
            signed,
            self.target.named_secrets(),
            key_header=self._policy.missing_key_header(request),
            has_certificate=self._has_certificate,
        )

    def _perform(  # noqa: PLR0917
        self,
        request: Outgoing,
        timeout_ms: int | None,
        deadline_ms: int | None,
        priority: Priority,
        is_streamed: bool = False,
        max_body_bytes: int | None = None,
        reader: Reader | None = None,
    ) -> requests.Response:
        timeout_ms = self._timeout_ms if timeout_ms is None else check_ms("timeout_ms", timeout_ms)
        deadline_ms = self._deadline_ms(timeout_ms) if deadline_ms is None else check_ms("deadline_ms", deadline_ms)
        if priority not in ("interactive", "batch"):
            raise refuse("priority", "is neither interactive nor batch")
        started = self._clock.monotonic()
        request_id = request_context.current().request_id or new_id("req")
        call = self._begin(request, request_id, timeout_ms / 1000, started + deadline_ms / 1000)
        call.is_batch, call.reader = priority == "batch", reader
        call.stream_deadline = call.deadline if is_streamed else None
        call.max_body_bytes = max_body_bytes or (MAX_STREAM_BYTES if is_streamed else MAX_BODY_BYTES)
        answer = self._count(request, call)
        return build_response(request, answer, self._clock.monotonic() - started)

    # --- one call ---

    def _deadline_ms(self, timeout_ms: int) -> int:
        return self._policy.deadline_ms or max(_DEFAULT_DEADLINE_MS, timeout_ms)

    def _begin(self, request: Outgoing, request_id: str, timeout: float, deadline: float) -> Call:
        if request.upload is not None and self.covers_body:
            raise refuse("data", f"is a file or an iterator, and {self.target.config.auth_type} signs the whole body")
        give_back_database_connections()
        request.headers["X-Request-Id"] = request_id
        self._policy.mark(request)
        return Call(request_id, timeout, deadline, self._lane.weigh(request.method, request.target))

    def _count(self, request: Outgoing, call: Call) -> Answer:
        started = self._clock.monotonic()
        outcome: dict[str, Any] = {"reason": "INTERRUPTED"}
        answer: Answer | None = None
        try:
            answer = self._call(request, call)
            outcome = {"status": answer.status}
        except ApiManagerError as error:
            # A body that its caller does not bring to an end is no error of the provider's.
            reason = "" if isinstance(error, InvalidInput) else error.code
            outcome = {"reason": reason, "status": getattr(error, "upstream_status", None)}
            raise
        finally:
            seconds = self._clock.monotonic() - started
            self._tell("outcome", call, seconds=seconds, **outcome)
            body = None if answer is None else answer.stream
            observe(self.target, request, call, body, clock=self._clock, seconds=seconds, **outcome)
        return answer

    def _call(self, request: Outgoing, call: Call) -> Answer:
        while True:
            call.attempt += 1
            call.let_go()
            try:
                return self._read(request, call)
            except CallError as error:
                call.complete(error)
                self._tell("failure", call, reason=error.code, status=getattr(error, "upstream_status", None))
                if request.upload is not None and not request.upload.rewind():
                    raise
                if self._renew(call, error):
                    continue
                wait = self._policy.wait_seconds(
                    error,
                    call.attempt,
                    is_repeatable=self._policy.is_repeatable(request, is_ours=call.passing is None),
                    chance=self._clock.chance(),
                )
                if wait is None or self._clock.monotonic() + wait >= call.deadline:
                    raise
                reason = error.code
                call.has_waited_out = getattr(error, "retry_after_seconds", None) is not None
            self._tell("wait", call, seconds=wait, reason=reason)
            if reason == UpstreamRateLimited.code:
                call.waits, call.wait_seconds = call.waits + 1, call.wait_seconds + wait
            self._clock.sleep(wait)

    def _read(self, request: Outgoing, call: Call) -> Answer:
        """Make an attempt and have its answer judged by what the call is about, where that is more than a status."""
        if call.reader is None:
            return self._attempt(request, call)
        try:
            answer = self._attempt(request, call)
        except UpstreamError as error:
            if error.is_transient or error.wants_refresh:
                raise
            raise call.reader.explain(error) from None
        call.reader.read(answer.body)
        return answer

    def _attempt(self, request: Outgoing, call: Call) -> Answer:
        """Send the request and whatever its answers redirect to; raises `UpstreamError` for an error status."""
        hop, is_at_home, left = request, True, call.timeout
        sent: list[tuple[Outgoing, Outgoing]] = []
        for call.hops in range(MAX_REDIRECTS + 1):
            # Credentials belong to the provider's origin. Whoever sends us abroad and back gets no signed request.
            is_at_home = is_at_home and hop.origin == self._origin
            if is_at_home:
                self._wait_for_slot(call)
            signed = self._sign(hop, call, is_signed=is_at_home)
            sent.append((hop, signed))
            # Neither the waits for slots nor Valkey's answers to them count for the time-out.
            started = self._clock.monotonic()
            answer = self._send(hop, signed, call, min(started + left, call.deadline))
            left -= self._clock.monotonic() - started
            verdict = self._outcomes.judge(answer)
            if is_at_home:
                self._heed_pace(answer, verdict)
            if verdict.action != "success":
                call.keep_or_close(answer)
                raise build_error(
                    self.target.provider_slug,
                    answer,
                    verdict,
                    now=self._clock.now(),
                    request_id=call.request_id,
                    attempts=call.attempt,
                )
            if not 300 <= answer.status < 400:
                return answer
            secrets = self.target.secrets().union(*(added_by_signing(*pair) for pair in sent))
            following = next_request(hop, answer, secrets)
            if following is None or (call.passing is not None and not self._passes(following, call)):
                return answer
            if answer.stream is not None:
                answer.stream.close()
            hop = following
            if hop.origin == self._origin:
                hop.target = self._composer.without_key(hop.target)
        raise BadAnswer(f"{self._origin} redirected more than {MAX_REDIRECTS} times.", may_have_happened=True)

    def _passes(self, following: Outgoing, call: Call) -> bool:
        if call.may_follow is None or following.origin != self._origin:
            return following.can_be_sent
        return following.can_be_sent and call.may_follow(following.method, following.target)

    def _sign(self, request: Outgoing, call: Call, *, is_signed: bool) -> Outgoing:
        call.signer = self._scheme if is_signed else None
        if call.signer is None:
            return request
        signed = request.copy()
        call.signer.sign(signed, self._clock.now())
        return signed

    def _send(self, request: Outgoing, signed: Outgoing, call: Call, until: float) -> Answer:
        kind = "redirect" if call.hops else "attempt"
        self._tell(kind, call, request=None if self.on_event is None else redact(request, signed))
        if signed.upload is not None and not signed.upload.rewind():
            raise BadAnswer(f"{self._origin} redirected an upload that can be read only once.", may_have_happened=True)
        call.sent += 1
        call.bytes_out += len(signed.body or b"")
        started = self._clock.monotonic()
        limit = time.monotonic() + until - started  # on the sockets' clock
        transport = self._transport_abroad if call.signer is None else self._transport
        answer = transport.send(
            signed.origin,
            signed.method,
            signed.target,
            signed.headers.as_dict(),
            signed.upload or signed.body,
            deadline=limit,
            max_body_bytes=call.max_body_bytes,
            stream_deadline=None if call.stream_deadline is None else limit + call.stream_deadline - until,
            is_raw=call.passing is not None,
        )
        call.bytes_in += len(answer.body)
        if answer.stream is not None:
            answer.stream.on_end(partial(observe_bytes, self.target.connection_id, self._clock))
        if call.passing is not None:
            call.passing.is_answered = True
            call.passing.latency_seconds = self._clock.monotonic() - started
            if answer.stream is not None and self._outcomes.read_bodies:
                answer.body = preview(answer, limit)
        elif answer.stream is not None and answer.status >= 300:
            with answer.stream:
                answer.body = answer.stream.read(MAX_ERROR_BODY_BYTES) or b""
            answer.stream = None
        self._tell("answer", call, seconds=self._clock.monotonic() - started, status=answer.status)
        return answer

    def _wait_for_slot(self, call: Call) -> None:
        """Wait until the provider's limits have room; raises `RateLimited`."""
        until = min(self._clock.monotonic() + call.timeout, call.deadline)
        while wait := self._lane.take(
            call.cost,
            is_batch=call.is_batch,
            patience_seconds=until - self._clock.monotonic(),
            heeds_pause=not call.has_waited_out,
        ):
            if self._clock.monotonic() + wait > until:
                message = f"The rate limit of {self.target.name} gives no slot in time."
                details = {"request_id": call.request_id, "limit_of": "connection"}
                raise RateLimited(message, retry_after_seconds=wait, details=details)
            self._tell("wait", call, seconds=wait, reason="rate_limit")
            call.waits += 1
            call.wait_seconds += wait
            self._clock.sleep(wait)

    def _heed_pace(self, answer: Answer, verdict: Verdict) -> None:
        """Slow every process down when the provider's headers say that it wants no call for a while."""
        is_refusal = verdict.action == "rate_limited" or answer.status == 503
        if pause := read_pause(answer.headers, self._clock.now(), is_refusal=is_refusal):
            self._lane.slow_down(pause)

    def _renew(self, call: Call, error: CallError) -> bool:
        """Have a refused credential renewed, once for a call, and once for all threads that met the same refusal."""
        if self._refresh is None or call.signer is None or call.has_refreshed:
            return False
        if not isinstance(error, UpstreamUnauthorized) or not error.wants_refresh:
            return False
        call.has_refreshed = True
        with self._refreshing:
            if self._scheme is call.signer:
                self._tell("refresh", call, reason=error.code)
                target = self._refresh()
                self._scheme, self.target = make_scheme(target), target
        return True

    def _tell(self, kind: Any, call: Call, **facts: Any) -> None:
        if call.trail is not None:
            known = {name: value for name, value in facts.items() if value is not None and name != "request"}
            call.trail.append((time.time_ns(), kind, {"attempt": call.attempt, **known}))
        if self.on_event is None:
            return
        try:
            self.on_event(Event(kind, call.request_id, call.attempt, **facts))
        except Exception:
            # A request may be under way or answered: whoever watches it must not decide what becomes of it.
            logger.exception("A listener failed at the event %s of a call to %s.", kind, self.target.name)

    def __repr__(self) -> str:
        return f"<ApiClient {self.target.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An ApiClient holds secrets and is not pickled.")
