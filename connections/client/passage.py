"""Requests of other programs, passed through a connection as they are: only the authentication is ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connections.client.call import Call, Passing
from external_apis.errors import BadAnswer, UpstreamError, UpstreamRateLimited, UpstreamUnauthorized
from external_apis.transport import MAX_STREAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3 import HTTPHeaderDict

    from connections.client.composer import Composer
    from connections.client.outgoing import Outgoing
    from connections.client.retry import Clock
    from external_apis.transport import Answer, StreamedBody, Upload

__all__ = ["Passage", "PassedAnswer", "Passing", "preview"]

_PREVIEW_BYTES = 64 * 1024
_IN_EVENTS = ("x-ndjson", "+ndjson", "/ndjson", "json-seq", "x-jsonlines", "stream+json")


@dataclass(slots=True)
class PassedAnswer:
    """An answer as it came: ``body`` is neither read nor unpacked, and whoever has it closes it.

    ``latency_seconds`` is the time from sending the last attempt to the head of its answer; ``was_refused`` tells that
    the provider has certainly done nothing: it was too busy, or did not know us.
    """

    status: int
    headers: HTTPHeaderDict
    body: StreamedBody = field(repr=False)
    attempts: int
    latency_seconds: float
    was_refused: bool = False


class Passage:
    """The part of `ApiClient` that passes a request through."""

    _clock: Clock
    _composer: Composer
    _timeout_ms: int

    def exchange(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        headers: Mapping[str, str],
        body: bytes | Upload | None = None,
        request_id: str,
        body_seconds: float,
        passing: Passing | None = None,
        may_follow: Callable[[str, str], bool] | None = None,
    ) -> PassedAnswer:
        """Make one call with somebody else's request, and return the answer whatever its status.

        Limits, retries, refresh and redirects are those of any call, and the last attempt's answer is returned also
        where it is an error. A POST or PATCH is taken for repeatable only by the idempotency header that the provider
        is configured with. ``path`` and ``query`` are percent-encoded. The time-out bounds each attempt up to the head
        of its answer, an upload's own time not counted; both bodies have ``body_seconds``. ``passing`` is told how far
        the call came, for whoever has to know when it fails. ``may_follow`` decides, by method and target, on redirects
        within the provider's origin; one that is not followed is the answer.

        Raises as `ApiClient.request` does, but `UpstreamError`.
        """
        request = self._composer.compose_passed(method, path, query, headers, body)
        now = self._clock.monotonic()
        call = self._begin(request, request_id, self._timeout_ms / 1000, now + self.deadline_seconds)
        call.passing = passing = passing or Passing()
        call.may_follow = may_follow
        call.stream_deadline, call.max_body_bytes = now + body_seconds, MAX_STREAM_BYTES
        failure: UpstreamError | None = None
        try:
            answer = self._count(request, call)
        except UpstreamError as error:
            if passing.refused is None:
                raise
            answer, failure = passing.refused, error
        except BaseException:
            call.let_go()
            raise
        if answer.stream is None:
            raise BadAnswer("The answer was read already.", may_have_happened=True)
        return PassedAnswer(
            answer.status,
            answer.headers,
            answer.stream,
            call.attempt,
            passing.latency_seconds,
            failure is not None and _was_refused(failure) and not passing.may_have_happened,
        )

    @property
    def deadline_seconds(self) -> float:
        """How long all attempts and waits of a call may take, up to the head of the answer."""
        return self._deadline_ms(self._timeout_ms) / 1000

    def show(
        self, method: str, path: str, query: str, *, headers: Mapping[str, str], body: bytes | Upload | None
    ) -> str:
        """Return the curl command of what `exchange` would send, as `ApiClient.dry_run` does."""
        return self._show(self._composer.compose_passed(method, path, query, headers, body))

    # What `ApiClient` brings.

    def _deadline_ms(self, timeout_ms: int) -> int:
        raise NotImplementedError

    def _begin(self, request: Outgoing, request_id: str, timeout: float, deadline: float) -> Call:
        raise NotImplementedError

    def _count(self, request: Outgoing, call: Call) -> Answer:
        raise NotImplementedError

    def _show(self, request: Outgoing) -> str:
        raise NotImplementedError


def _was_refused(error: UpstreamError) -> bool:
    return isinstance(error, (UpstreamRateLimited, UpstreamUnauthorized)) or error.upstream_status == 503


def preview(answer: Answer, deadline: float) -> bytes:
    """Return the beginning of a JSON or plain body that rules judge; one that comes in events is not waited for.

    ``deadline`` is the attempt's, on the clock of `time.monotonic`: until it is judged an answer is not one.
    """
    kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    is_judged = kind.endswith(("json", "xml", "html")) or kind == "text/plain"
    if answer.stream is None or not is_judged or kind.endswith(_IN_EVENTS):
        return b""
    return answer.stream.preview(_PREVIEW_BYTES, deadline)
