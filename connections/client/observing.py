"""What a call that has ended leaves behind: numbers, at times itself, and a span where traces are on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from connections.client import measures, tracing, usage
from connections.client.samples import Sample, shown_path

if TYPE_CHECKING:
    from connections.client.call import Call
    from connections.client.outgoing import Outgoing
    from connections.client.retry import Clock
    from connections.client.target import Target

__all__ = ["observe", "observe_stream"]

_STATUSES = tuple(f"{measures.STATUS}{digit}xx" for digit in range(10))


def observe(
    target: Target,
    request: Outgoing,
    call: Call,
    *,
    now: float,
    seconds: float,
    reason: str = "",
    status: int | None = None,
) -> None:
    """Note a call that took ``seconds`` and ended at ``now``; ``reason`` is the code of its error, empty for none.

    One that got no slot is no call of the connection: its waits and its error are counted all the same.
    """
    if not target.connection_id:
        return

    def sample() -> Sample:
        return Sample(
            connection_id=target.connection_id,
            at=now,
            method=request.method[:16],
            path=shown_path(request.target, target.secrets()),
            status=status,
            error=reason,
            duration_ms=round(seconds * 1000),
            attempts=call.attempt,
            request_id=call.request_id,
        )

    usage.record(target.connection_id, _count(request, call, seconds, reason, status), at=now)
    usage.keep(sample, is_error=bool(reason), one_in=settings.CALL_SAMPLE_ONE_IN)
    if call.trail is not None:
        tracing.tell(target.provider_slug, sample(), call.trail)


def observe_stream(connection_id: str, clock: Clock, received_bytes: int) -> None:
    """Count the bytes of an answer's body that was left to the caller, when it has ended."""
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
