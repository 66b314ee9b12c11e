"""What a call that has ended leaves behind: numbers, at times itself, and a span where traces are on."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from django.conf import settings

from connections.client import measures, tracing, usage
from connections.client.samples import Sample, shown_path
from external_apis import request_context

if TYPE_CHECKING:
    from connections.client.call import Call
    from connections.client.outgoing import Outgoing
    from connections.client.retry import Clock
    from connections.client.target import Target
    from external_apis.transport import StreamedBody

__all__ = ["observe", "observe_bytes"]

_INTERRUPTED = "INTERRUPTED"

_STATUSES = tuple(f"{measures.STATUS}{digit}xx" for digit in range(10))


def observe(
    target: Target,
    request: Outgoing,
    call: Call,
    body: StreamedBody | None = None,
    *,
    clock: Clock,
    seconds: float,
    reason: str = "",
    status: int | None = None,
) -> None:
    """Note a call that took ``seconds`` up to now; ``reason`` is the code of its error, empty for none.

    One that got no slot is no call of the connection: its waits and its error are counted all the same. With a ``body``
    that is still to be read the call is counted now, in the minute of the answer's head. Whether it failed is known,
    and the single call kept, when the body has ended: one that breaks off is an error of that same minute.
    """
    if not target.connection_id:
        return
    now, parent = clock.now(), request_context.current().traceparent

    def keep(error: str, lasted: float) -> None:
        def sample() -> Sample:
            return Sample(
                connection_id=target.connection_id,
                at=clock.now(),
                method=request.method[:16],
                path=shown_path(request.target, target.secrets()),
                status=status,
                error=error,
                duration_ms=round(lasted * 1000),
                attempts=call.attempt,
                request_id=call.request_id,
            )

        usage.keep(sample, is_error=bool(error), one_in=settings.CALL_SAMPLE_ONE_IN)
        if call.trail is not None:
            tracing.tell(target.provider_slug, sample(), call.trail, parent)

    def hear(received_bytes: int, error: BaseException | None) -> None:
        bag = {measures.BYTES_IN: received_bytes} if received_bytes else {}
        if error is None:
            keep("", seconds)
        else:
            code = getattr(error, "code", _INTERRUPTED)
            bag |= {measures.ERRORS: 1, f"{measures.ERROR}{code}": 1}
            if call.trail is not None:
                call.trail.append((time_ns(), "failure", {"attempt": call.attempt, "reason": code}))
            keep(code, seconds + clock.monotonic() - answered)
        if bag:
            usage.record(target.connection_id, bag, at=now)

    usage.record(target.connection_id, _count(request, call, seconds, reason, status), at=now)
    if body is None:
        keep(reason, seconds)
    else:
        answered = clock.monotonic()
        body.on_end(hear)


def observe_bytes(connection_id: str, clock: Clock, received_bytes: int, error: BaseException | None) -> None:
    """Count the bytes of a body that nobody reads as the call's answer, when it has ended, however it did."""
    if received_bytes and connection_id:
        usage.record(connection_id, {measures.BYTES_IN: received_bytes}, at=clock.now())


def _count(request: Outgoing, call: Call, seconds: float, error: str, status: int | None) -> measures.Bag:
    bag: measures.Bag = {}
    if call.sent:
        bag = {measures.CALLS: 1, measures.MICROSECONDS: round(seconds * 1e6), measures.bucket_name(seconds): 1}
        if error:
            bag[measures.ERRORS] = 1
    if error:
        bag[f"{measures.ERROR}{error}"] = 1
    if status is not None and 100 <= status < 1000:
        bag[_STATUSES[status // 100]] = 1
    if call.waits:
        bag[measures.WAITS], bag[measures.WAIT_MS] = call.waits, round(call.wait_seconds * 1000)
    sent = call.bytes_out + (request.upload.sent_bytes if request.upload is not None else 0)
    if sent:
        bag[measures.BYTES_OUT] = sent
    if call.bytes_in:
        bag[measures.BYTES_IN] = call.bytes_in
    return bag
