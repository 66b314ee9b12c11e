"""Calls with an ``Idempotency-Key``: made once within 24 hours, and answered alike from then on."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.db import Error

from connections import idempotent_calls
from connections.client.passage import Passing
from connections.gateway import renewals
from connections.gateway.answers import gather, headers_of, respond, stream, stream_unheard
from connections.idempotent_calls import MAX_KEPT_BYTES, KeptAnswer
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError, EgressRefused, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http.response import HttpResponseBase

    from connections.client import ApiClient
    from connections.client.passage import PassedAnswer
    from connections.gateway.calls import GatewayCall
    from connections.idempotent_calls import Claim
    from connections.models import ExternalApiConnection
    from external_apis.authentication import KeyHolder

__all__ = ["mark", "read_key", "send"]

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
_METHODS = frozenset(("DELETE", "PATCH", "POST", "PUT"))
_REPEATABLE = frozenset(("DELETE", "PUT"))  # RFC 9110 9.2.2
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")
_MARGIN_SECONDS = 30.0


def read_key(method: str, environ: Mapping[str, Any]) -> str:
    """Return the caller's key, empty where there is none or the method is safe. Raises `InvalidInput`."""
    key: str | None = environ.get("HTTP_IDEMPOTENCY_KEY") if method in _METHODS else None
    if key is None:
        return ""
    if not _KEY.fullmatch(key):
        message = "is empty, has more than 255 characters, or others than printable ASCII"
        raise InvalidInput(f"{HEADER} {message}.", details={"errors": [{"path": HEADER, "message": message}]})
    return key


def mark(client: ApiClient, holder: KeyHolder, key: str, headers: dict[str, str]) -> dict[str, str]:
    """Hand the key on under the name that the provider knows, where the caller has not: made ours, so that two callers
    with one key do not get each other's answers."""
    name = client.idempotency_header
    if name and name.lower() not in map(str.lower, headers):
        digest = hashlib.sha256(f"{holder.key_id} {client.target.connection_id} {key}".encode()).digest()
        return {**headers, name: str(UUID(bytes=digest[:16], version=4))}
    return headers


def send(
    call: GatewayCall, holder: KeyHolder, row: ExternalApiConnection, key: str, on_end: Callable[[], None]
) -> HttpResponseBase:
    """Make the call, or return the answer that it had.

    An answer that says that nothing was done (401, 429, 503) is passed on and not kept, so that the call can be made
    again. Raises as `GatewayCall.send` and `idempotent_calls.claim` do.
    """
    header = call.client.idempotency_header
    found = idempotent_calls.claim(
        row,
        holder.key_id,
        key,
        _digest(call),
        lease_seconds=call.client.deadline_seconds + _MARGIN_SECONDS,
        is_repeatable=call.method in _REPEATABLE or bool(header and header.lower() in map(str.lower, call.headers)),
    )
    if isinstance(found, KeptAnswer):
        on_end()
        return respond(found.status, {**found.headers, "Idempotent-Replayed": "true"}, found.body)
    passing = Passing()
    try:
        passed = call.send(passing)
    except BaseException as error:
        _settle(found.doubt if _is_in_doubt(passing, error) else found.release)
        raise
    if passed.was_refused:
        _settle(found.release)
        return stream_unheard(passed, on_end)
    return _keep(found, passed, on_end)


def _keep(claim: Claim, passed: PassedAnswer, on_end: Callable[[], None]) -> HttpResponseBase:
    """Pass a short answer on once it is stored; others, which somebody waits for, while they are collected."""
    try:
        headers = headers_of(passed)
        content, is_whole = gather(passed)
    except BaseException:
        _settle(claim.doubt)
        raise
    if not is_whole:
        return stream(passed, headers, _Collector(claim, passed.status, headers, content, on_end), beginning=content)
    _store(claim, passed.status, headers, content)
    passed.body.close()
    on_end()
    return respond(passed.status, headers, content)


class _Collector:
    """Collects an answer on its way, up to what is kept; the call is under way until it ends."""

    def __init__(
        self,
        claim: Claim,
        status: int,
        headers: Mapping[str, str],
        beginning: bytes,
        on_end: Callable[[], None],
    ) -> None:
        self._claim, self._status, self._headers, self._on_end = claim, status, headers, on_end
        self._content = bytearray(beginning)
        renewals.keep(claim)

    def hear(self, piece: bytes) -> None:
        if len(self._content) <= MAX_KEPT_BYTES:
            self._content += piece

    def end(self, *, is_whole: bool) -> None:
        """An answer that nobody has whole leaves the call in doubt, as one that was lost before it began."""
        renewals.let_go(self._claim)
        if is_whole:
            _store(self._claim, self._status, self._headers, bytes(self._content))
        else:
            _settle(self._claim.doubt)
        self._on_end()


def _store(claim: Claim, status: int, headers: Mapping[str, str], content: bytes) -> None:
    if len(content) > MAX_KEPT_BYTES:
        _settle(claim.store_nothing)
    else:
        _settle(lambda: claim.store(KeptAnswer(status, headers, content)))


def _settle(write: Callable[[], None]) -> None:
    """Write down what became of the call. Where that fails the call is in doubt later, and its answer goes out now."""
    try:
        write()
    except (ApiManagerError, Error) as error:
        log.warning("an idempotent call's outcome was not stored", error=type(error).__name__)
    finally:
        give_back_database_connections()


def _is_in_doubt(passing: Passing, error: BaseException) -> bool:
    if not isinstance(error, ApiManagerError):
        return True
    # A redirect that is not followed comes from a provider that has had the request.
    return passing.may_have_happened or (passing.is_answered and isinstance(error, EgressRefused))


def _digest(call: GatewayCall) -> str:
    """Return what tells this request from another, the key that the provider gets among it: with another one there the
    provider takes it for another call."""
    body = call.body if isinstance(call.body, bytes) else b""
    header = call.client.idempotency_header
    told = next((value for name, value in call.headers.items() if header and name.lower() == header.lower()), "")
    parts = (call.method, call.route.path, call.route.query, call.headers.get("Content-Type", ""), told)
    return idempotent_calls.digest_request(*(part.encode() for part in parts), body)
