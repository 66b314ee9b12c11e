"""Calls with an ``Idempotency-Key``: made once within 24 hours, and answered alike from then on."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from django.db import DatabaseError

from connections import idempotent_calls
from connections.client.passage import Passing
from connections.gateway.answers import headers_of, is_event_stream, respond, stream
from connections.gateway.calls import BODY_SECONDS
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
_PIECE_BYTES = 64 * 1024


def read_key(method: str, headers: Mapping[str, str]) -> str:
    """Return the caller's key, empty where there is none or the method is safe. Raises `InvalidInput`."""
    key = headers.get(HEADER, "") if method in _METHODS else ""
    if key and not _KEY.fullmatch(key):
        message = "has more than 255 characters, or others than printable ASCII"
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
        return stream(passed, headers_of(passed), lambda _is_whole: on_end())
    return _keep(found, passed, on_end)


def _keep(claim: Claim, passed: PassedAnswer, on_end: Callable[[], None]) -> HttpResponseBase:
    """Pass the answer on once it is stored; events, which somebody waits for, while it is collected."""
    headers = headers_of(passed)
    if (passed.body.announced_bytes or MAX_KEPT_BYTES) > _PIECE_BYTES:
        _settle(lambda: claim.extend(BODY_SECONDS + _MARGIN_SECONDS))
    content = bytearray()
    if is_event_stream(passed):

        def collect(piece: bytes) -> None:
            if len(content) <= MAX_KEPT_BYTES:
                content.extend(piece)

        def finish(is_whole: bool) -> None:
            _store(claim, passed.status, headers, bytes(content) if is_whole else None)
            on_end()

        return stream(passed, headers, finish, on_piece=collect)
    try:
        while len(content) <= MAX_KEPT_BYTES and (piece := passed.body.read(_PIECE_BYTES)):
            content += piece
    except BaseException:
        _settle(claim.doubt)
        raise
    _store(claim, passed.status, headers, bytes(content))
    if len(content) > MAX_KEPT_BYTES:
        return stream(passed, headers, lambda _is_whole: on_end(), beginning=bytes(content))
    passed.body.close()
    on_end()
    return respond(passed.status, headers, bytes(content))


def _store(claim: Claim, status: int, headers: Mapping[str, str], content: bytes | None) -> None:
    if content is None or len(content) > MAX_KEPT_BYTES:
        _settle(claim.store_nothing)
    else:
        _settle(lambda: claim.store(KeptAnswer(status, headers, content)))


def _settle(write: Callable[[], None]) -> None:
    """Write down what became of the call. Where that fails the call is in doubt later, and its answer goes out now."""
    try:
        write()
    except (ApiManagerError, DatabaseError) as error:
        log.warning("an idempotent call's outcome was not stored", error=type(error).__name__)
    finally:
        give_back_database_connections()


def _is_in_doubt(passing: Passing, error: BaseException) -> bool:
    if not isinstance(error, ApiManagerError):
        return True
    # A redirect that is not followed comes from a provider that has had the request.
    return passing.may_have_happened or (passing.is_answered and isinstance(error, EgressRefused))


def _digest(call: GatewayCall) -> str:
    body = call.body if isinstance(call.body, bytes) else b""
    kind = call.headers.get("Content-Type", "")
    return idempotent_calls.digest_request(
        *(part.encode() for part in (call.method, call.route.path, call.route.query, kind)), body
    )
