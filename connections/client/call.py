"""One call on its way, over all its attempts and redirects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connections.client import tracing
from external_apis.transport import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from connections.client.scheme import Scheme
    from connections.client.tracing import Step
    from connections.wire.graphql import Reader
    from external_apis.errors import CallError
    from external_apis.transport import Answer

__all__ = ["Call", "Passing"]


@dataclass(slots=True)
class Passing:
    """What a call that passes somebody else's bodies through has come to.

    ``refused`` is the answer of the last attempt that was an error, its body unread; ``latency_seconds`` the time from
    sending to the answer's head, of the last attempt that had one. ``may_have_happened`` tells whether one of the
    failed attempts may have done what was asked for.
    """

    refused: Answer | None = None
    is_answered: bool = False
    latency_seconds: float = 0.0
    may_have_happened: bool = False


@dataclass(slots=True)
class Call:
    """``timeout`` is in seconds; ``deadline``, and that of a streamed body, on the client's clock."""

    request_id: str
    timeout: float
    deadline: float
    cost: int = 1
    is_batch: bool = False
    stream_deadline: float | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    reader: Reader | None = None
    passing: Passing | None = None
    may_follow: Callable[[str, str], bool] | None = None  # a redirect within the provider's origin: method and target
    attempt: int = 0
    sent: int = 0
    hops: int = 0
    signer: Scheme | None = None  # of the request that was sent last; None for one that went to strangers
    has_refreshed: bool = False
    has_waited_out: bool = False  # the pause that the provider asked for
    waits: int = 0  # for a rate limit: for a slot, or as a 429 asked for
    wait_seconds: float = 0.0
    bytes_out: int = 0  # of bodies that are no uploads, which count themselves
    bytes_in: int = 0  # of bodies that are no streams
    trail: list[Step] | None = field(default_factory=lambda: [] if tracing.IS_ON else None)

    def keep_or_close(self, answer: Answer) -> None:
        """Deal with the unread body of an error: whoever passes bodies through wants that of the last attempt."""
        if self.passing is not None:
            self.passing.refused = answer
        elif answer.stream is not None:
            answer.stream.close()

    def let_go(self) -> None:
        """Close the error of an attempt that another one follows."""
        if self.passing is not None and self.passing.refused is not None:
            refused, self.passing.refused = self.passing.refused, None
            if refused.stream is not None:
                refused.stream.close()

    def complete(self, error: CallError) -> None:
        """Add what only the client knows to an error of the transport."""
        error.request_id, error.attempts = self.request_id, self.attempt
        error.may_have_happened = error.may_have_happened or self.hops > 0  # what redirects has had the request
        if self.passing is not None and error.may_have_happened:
            self.passing.may_have_happened = True
        error.details |= {
            "request_id": self.request_id,
            "attempts": self.attempt,
            "may_have_happened": error.may_have_happened,
        }
