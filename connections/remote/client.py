"""Calls to a provider through the gateway of another machine, with the interface of `connections.client.ApiClient`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from requests.structures import CaseInsensitiveDict

from connections.remote.bodies import read_body
from connections.remote.facts import Facts, below, read_facts
from connections.remote.fields import check_passed
from connections.remote.paging import Paging, paging_of
from connections.remote.refusals import is_upstreams, refusal_of, upstream_error
from connections.remote.server import API, Server, reference_path
from connections.wire import graphql, verbs
from connections.wire.arguments import check_method, check_ms, refuse
from connections.wire.encoding import encode_call, encode_query
from connections.wire.paths import fill_path, join_path
from external_apis.errors import NotFound, UpstreamError

if TYPE_CHECKING:
    import requests

__all__ = ["RemoteClient"]

Params = Mapping[str, Any] | Iterable[tuple[str, Any]] | None
Priority = Literal["interactive", "batch"]

_MAX_BODY_BYTES, _MAX_STREAM_BYTES, _MAX_ERROR_BODY_BYTES = 10 * 1024 * 1024, 16 * 1024**3, 16 * 1024
_DEADLINE_SECONDS = 150.0
"""Longer than the server's own, which then tells what happened."""
_FACTS_SECONDS = 60.0
_DRY_RUN = "dry_run=curl"
# The gateway takes a parameter of that name for itself, but for the provider's own one that is written like this.
_ITS_NAME, _OTHER_SPELLING = "dry_run", "%64ry_run"


class RemoteClient(verbs.Verbs):
    """Calls one provider through one connection; safe to share between threads.

    It raises what `ApiClient` raises, and errors of the way to the server: `ConnectFailed`, `CallTimeout`,
    `ServiceUnavailable`, `NotAuthenticated`, `Forbidden`, `RateLimited`. Limits, retries, renewal and redirects are
    the server's; it asks once, and again only where it could not connect. The connection is looked up at the first
    call, which is when it is known that it does not exist, and again after a minute.
    """

    def __init__(self, server: Server, reference: str, *, environment: str | None = None) -> None:
        self._server = server
        self._page = reference_path(reference, "client")
        self._params = {"environment": environment} if environment else {}
        self._name = reference
        self._known: tuple[Facts, float] | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params = None,
        data: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        deadline_ms: int | None = None,
        priority: Priority = "interactive",
        stream: bool = False,
        max_body_bytes: int | None = None,
    ) -> requests.Response:
        """Make one call; the arguments are those of `ApiClient.request`.

        ``timeout_ms`` bounds the wait for the server from the connect to the last byte, the server's own retries among
        that, ``deadline_ms`` the whole call (150 s, or the time-out if that is longer); the provider's own limits hold
        beside them. The server takes every call for an interactive one. With ``stream`` the body is left to the caller
        to read and to close, and has until the deadline.
        """
        limits = _read_limits(timeout_ms, deadline_ms, priority, max_body_bytes, is_streamed=stream)
        facts = self._facts(limits)
        return self._perform(facts, _compose(facts, method, path, params, data, json, headers), limits)

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
        """GET a URL that an answer of the provider named; raises `EgressRefused` for one outside of its base URL."""
        limits = _read_limits(timeout_ms, deadline_ms, priority, max_body_bytes)
        facts = self._facts(limits)
        check_passed(headers or {})
        return self._perform(facts, _Composed("GET", join_path("", below(url, facts)), headers or {}, None), limits)

    def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        operation_name: str | None = None,
        path: str | None = None,
        params: Params = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        deadline_ms: int | None = None,
        priority: Priority = "interactive",
        max_body_bytes: int | None = None,
    ) -> Any:
        """Run one operation and return its ``data``; raises `GraphqlError` for ``errors`` in the answer.

        One that the provider refused for its cost is not tried again here: the error says when it may be.
        """
        limits = _read_limits(timeout_ms, deadline_ms, priority, max_body_bytes)
        facts = self._facts(limits)
        body = graphql.build_body(query, variables, operation_name)
        composed = _compose(facts, "POST", path or facts.graphql_path, params, None, body, headers)
        reader = graphql.Reader((), time.time, lambda _seconds: None)
        try:
            response = self._perform(facts, composed, limits)
        except UpstreamError as error:
            if error.is_transient or error.upstream_status == 401:
                raise
            raise reader.explain(error) from None
        reader.read(response.content)
        return reader.data

    def dry_run(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        params: Params = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Return the curl command of a call, as the server would send it, without secrets. Nothing is sent."""
        limits = _read_limits(None, None, "interactive", None)
        facts = self._facts(limits)
        composed = _compose(facts, method, path, params, data, json, headers)
        response = self._send(facts, composed, limits, is_dry=True)
        body = read_body(response)
        if response.status_code != 200 or is_upstreams(response.headers):
            self._refuse(response, body)
        return body.decode(errors="replace")

    def _paging(self, style: str | None, changes: Mapping[str, Any], options: Mapping[str, Any]) -> Paging:
        times = (options.get("timeout_ms"), options.get("deadline_ms"))
        return paging_of(self._facts(_read_limits(*times, "interactive", None)).paging, style, changes)

    def _facts(self, limits: _Limits) -> Facts:
        """Return what is known of the connection, asked for anew after a while: a provider may move."""
        known, now = self._known, time.monotonic()
        if known is not None and now < known[1]:
            return known[0]
        facts = read_facts(self._server.ask(self._page, self._params, timeout_seconds=max(limits.until - now, 0.0)))
        self._known = facts, now + _FACTS_SECONDS
        return facts

    def _perform(self, facts: Facts, composed: _Composed, limits: _Limits) -> requests.Response:
        response = self._send(facts, composed, limits)
        if not is_upstreams(response.headers):
            self._refuse(response, read_body(response))
        if response.status_code >= 400:
            beginning = read_body(response)[:_MAX_ERROR_BODY_BYTES]
            raise upstream_error(facts.name, response.status_code, response.headers, beginning)
        if not limits.is_streamed:
            read_body(response)
        # As whoever looks for the next page, or logs the answer, expects it: the provider's address.
        response.url = response.request.url = facts.base_url + composed.target
        return response

    def _send(self, facts: Facts, composed: _Composed, limits: _Limits, *, is_dry: bool = False) -> requests.Response:
        route, _, query = composed.target.partition("?")
        pairs = [_disguised(pair) for pair in query.split("&") if pair] + ([_DRY_RUN] if is_dry else [])
        # The gateway knows the base URL better than what was told a while ago. Only of a path that begins like that
        # one it would take the beginning for it.
        if facts.base_path and f"{route}/".startswith(f"{facts.base_path}/"):
            route = facts.base_path + route
        # The server decodes a path once.
        target = f"{API}/proxy/{facts.id}{route.replace('%', '%25')}{'?' if pairs else ''}{'&'.join(pairs)}"
        return self._server.send(
            composed.method,
            target,
            headers=composed.headers,
            body=composed.body,
            deadline=limits.until,
            body_deadline=limits.deadline if limits.is_streamed else None,
            most_bytes=limits.most_bytes,
        )

    def _refuse(self, response: requests.Response, body: bytes) -> NoReturn:
        """Raise what the server itself says of a call."""
        refusal = refusal_of(response.status_code, response.headers, body)
        if isinstance(refusal, NotFound):
            self._known = None  # it may have been made anew under its name
        raise refusal or self._server.stranger(response.status_code)

    def __repr__(self) -> str:
        return f"<RemoteClient {self._name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A RemoteClient holds a key and is not pickled.")


@dataclass(frozen=True, slots=True)
class _Limits:
    """``until`` and ``deadline`` are on the clock of `time.monotonic`: the end of an attempt, and of the call."""

    until: float
    deadline: float
    most_bytes: int
    is_streamed: bool


@dataclass(frozen=True, slots=True, repr=False)
class _Composed:
    """A request to the provider; ``target`` is path and query below its base URL, percent-encoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Any


def _read_limits(
    timeout_ms: Any, deadline_ms: Any, priority: Any, max_body_bytes: int | None, *, is_streamed: bool = False
) -> _Limits:
    if priority not in ("interactive", "batch"):
        raise refuse("priority", "is neither interactive nor batch")
    timeout = None if timeout_ms is None else check_ms("timeout_ms", timeout_ms) / 1000
    seconds = max(_DEADLINE_SECONDS, timeout or 0.0)
    if deadline_ms is not None:
        seconds = check_ms("deadline_ms", deadline_ms) / 1000
    now = time.monotonic()
    return _Limits(
        until=now + min(seconds, timeout or seconds),
        deadline=now + seconds,
        most_bytes=max_body_bytes or (_MAX_STREAM_BYTES if is_streamed else _MAX_BODY_BYTES),
        is_streamed=is_streamed,
    )


def _compose(  # noqa: PLR0917
    facts: Facts, method: str, path: str, params: Params, data: Any, json: Any, headers: Mapping[str, str] | None
) -> _Composed:
    method = check_method(method)
    target = join_path("", fill_path(path, facts.variables))
    if params and (query := encode_query(params)):
        target += ("&" if "?" in target else "?") + query
    body, content_type = encode_call(data, json, facts.encoding)
    check_passed(headers or {})
    fields = CaseInsensitiveDict({"Content-Type": content_type} if content_type else {})
    fields.update(headers or {})
    return _Composed(method, target, fields, body)


def _disguised(pair: str) -> str:
    name, mark, value = pair.partition("=")
    return f"{_OTHER_SPELLING if name == _ITS_NAME else name}{mark}{value}"
