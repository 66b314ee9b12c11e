"""One call on its way, over all its attempts and redirects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from external_apis.transport import MAX_BODY_BYTES

if TYPE_CHECKING:
    from connections.client.graphql import Reader
    from connections.client.scheme import Scheme
    from external_apis.errors import CallError

__all__ = ["Call"]


@dataclass(slots=True)
class Call:
    """``timeout`` is in seconds, ``deadline`` on the client's clock."""

    request_id: str
    timeout: float
    deadline: float
    cost: int = 1
    is_batch: bool = False
    is_streamed: bool = False
    max_body_bytes: int = MAX_BODY_BYTES
    reader: Reader | None = None
    attempt: int = 0
    sent: int = 0
    hops: int = 0
    signer: Scheme | None = None  # of the request that was sent last; None for one that went to strangers
    has_refreshed: bool = False
    has_waited_out: bool = False  # the pause that the provider asked for

    def complete(self, error: CallError) -> None:
        """Add what only the client knows to an error of the transport."""
        error.request_id, error.attempts = self.request_id, self.attempt
        error.may_have_happened = error.may_have_happened or self.hops > 0  # what redirects has had the request
        error.details |= {
            "request_id": self.request_id,
            "attempts": self.attempt,
            "may_have_happened": error.may_have_happened,
        }
