"""Calls to a provider through the gateway of another machine, with the interface of `connections.client.ApiClient`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from connections.remote.facts import Facts, below, paging_of, read_facts
from connections.remote.refusals import is_upstreams, refusal_of, upstream_error
from connections.remote.server import API, Server, read_body, reference_path
from connections.wire import graphql, pages
from connections.wire.arguments import refuse
from connections.wire.encoding import CONTENT_TYPES, encode_body, encode_query, encode_text
from connections.wire.headers import check_headers
from connections.wire.paths import join_path
from external_apis.errors import NotFound, UpstreamError

if TYPE_CHECKING:
    import requests

__all__ = ["RemoteClient"]

Params = Mapping[str, Any] | Iterable[tuple[str, Any]] | None

_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
_MAX_BODY_BYTES, _MAX_ERROR_BODY_BYTES = 10 * 1024 * 1024, 16 * 1024
_DEADLINE_SECONDS = 150.0
"""Longer than the server's own, which then tells what happened."""
_LONGEST_MS = 86_400_000
_BYTES = {"Content-Type": "application/octet-stream"}
_DRY_RUN = "dry_run=curl"
_PAGE_OPTIONS = frozenset(("deadline_ms", "headers", "max_body_bytes", "priority", "timeout_ms"))


class RemoteClient:
    """Calls one provider through one connection; safe to share between threads.

    It raises what `ApiClient` raises, and errors of the way to the server: `ConnectFailed`, `CallTimeout`,
    `ServiceUnavailable`, `NotAuthenticated`, `Forbidden`, `RateLimited`. Limits, retries, renewal and redirects are
    the server's; it asks once, and again only where it could not connect. The connection is looked up at the first
    call: that it does not exist is known then.
    """

    def __init__(self, server: Server, reference: str, *, environment: str | None = None) -> None:
        self._server = server
        self._page = reference_path(reference, "client")
        self._params = {"environment": environment} if environment else {}
        self._name = reference
        self._lock = threading.Lock()
        self._known: Facts | None = None

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
        priority: Literal["interactive", "batch"] = "interactive",
        stream: bool = False,
        max_body_bytes: int | None = None,
    ) -> requests.Response:
        """Make one call; the arguments are those of `ApiClient.request`.

        ``timeout_ms`` bounds each wait for the server, ``deadline_ms`` the whole call; the provider's own limits hold
        beside them. The server takes every call for an interactive one. With ``stream`` the body is the caller's to
        read, of any length, and to close.
        """
        if priority not in ("interactive", "batch"):
            raise refuse("priority", "is neither interactive nor batch")
        facts = self._facts()
        composed = _compose(facts, method, path, params, data, json, headers)
        timeout_seconds = None if timeout_ms is None else _seconds("timeout_ms", timeout_ms)
        seconds = _DEADLINE_SECONDS if deadline_ms is None else _seconds("deadline_ms", deadline_ms)
        deadline = time.monotonic() + max(seconds, timeout_seconds or 0.0)
        response = self._send(facts, composed, timeout_seconds, deadline)
        if not is_upstreams(response.headers):
            self._refuse(response, deadline)
        if response.status_code >= 400:
            beginning = read_body(response, max_body_bytes or _MAX_BODY_BYTES, deadline)[:_MAX_ERROR_BODY_BYTES]
            raise upstream_error(facts.name, response.status_code, response.headers, beginning)
        if not stream:
            read_body(response, max_body_bytes or _MAX_BODY_BYTES, deadline)
        # As whoever looks for the next page, or logs the answer, expects it: the provider's address.
        response.url = response.request.url = facts.base_url.removesuffix(facts.base_path) + composed.target
        return response

    def follow(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        deadline_ms: int | None = None,
        priority: Literal["interactive", "batch"] = "interactive",
        max_body_bytes: int | None = None,
    ) -> requests.Response:
        """GET a URL that an answer of the provider named; raises `EgressRefused` for one outside of its base URL."""
        facts = self._facts()
        return self.request(
            "GET",
            below(url, facts),
            headers=headers,
            timeout_ms=timeout_ms,
            deadline_ms=deadline_ms,
            priority=priority,
            max_body_bytes=max_body_bytes,
        )

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

    def paginate(
        self,
        path: str,
        style: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Iterator[Any]:
        """Iterate over the items of a list, with one page at a time in memory, as `ApiClient.paginate` does."""
        paging = paging_of(self._facts().paging, style, settings)
        given = dict(options or {})
        if unknown := given.keys() - _PAGE_OPTIONS:
            raise refuse(f"options.{min(map(str, unknown))}", f"is none of {', '.join(sorted(_PAGE_OPTIONS))}")

        def fetch(address: pages.Address) -> requests.Response:
            if address.url:
                return self.follow(address.url, **given)
            return self.get(path, address.params, **given)

        return pages.walk(fetch, paging, params)

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
        priority: Literal["interactive", "batch"] = "interactive",
        max_body_bytes: int | None = None,
    ) -> Any:
        """Run one operation and return its ``data``; raises `GraphqlError` for ``errors`` in the answer.

        One that the provider refused for its cost is not tried again here: the error says when it may be.
        """
        reader = graphql.Reader((), time.time, lambda _seconds: None)
        try:
            response = self.request(
                "POST",
                path or self._facts().graphql_path,
                params=params,
                json=graphql.build_body(query, variables, operation_name),
                headers=headers,
                timeout_ms=timeout_ms,
                deadline_ms=deadline_ms,
                priority=priority,
                max_body_bytes=max_body_bytes,
            )
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
        route, _, query = path.partition("?") if isinstance(path, str) else (path, "", "")
        shown = f"{route}?{query}&{_DRY_RUN}" if query else f"{route}?{_DRY_RUN}"
        deadline = time.monotonic() + _DEADLINE_SECONDS
        facts = self._facts()
        response = self._send(facts, _compose(facts, method, shown, params, data, json, headers), None, deadline)
        if response.status_code != 200 or is_upstreams(response.headers):
            self._refuse(response, deadline)
        return read_body(response, _MAX_BODY_BYTES, deadline).decode(errors="replace")

    def _facts(self) -> Facts:
        with self._lock:
            if self._known is None:
                self._known = read_facts(self._server.ask(self._page, self._params))
            return self._known

    def _send(
        self, facts: Facts, composed: _Composed, timeout_seconds: float | None, deadline: float
    ) -> requests.Response:
        # The server decodes a path once.
        route, mark, query = composed.target.partition("?")
        return self._server.send(
            composed.method,
            f"{API}/proxy/{facts.id}{route.replace('%', '%25')}{mark}{query}",
            headers=composed.headers,
            body=composed.body,
            timeout_seconds=timeout_seconds,
            deadline=deadline,
        )

    def _refuse(self, response: requests.Response, deadline: float) -> NoReturn:
        """Raise what the server itself says of a call."""
        refusal = refusal_of(response.headers, read_body(response, _MAX_BODY_BYTES, deadline))
        if isinstance(refusal, NotFound):
            with self._lock:
                self._known = None  # it may have been made anew under its name
        raise refusal or self._server.stranger(response.status_code)

    def __repr__(self) -> str:
        return f"<RemoteClient {self._name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A RemoteClient holds a key and is not pickled.")


@dataclass(frozen=True, slots=True, repr=False)
class _Composed:
    """A request to the provider; ``target`` is path and query, percent-encoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Any


def _compose(  # noqa: PLR0917
    facts: Facts, method: str, path: str, params: Params, data: Any, json: Any, headers: Mapping[str, str] | None
) -> _Composed:
    method = method.upper() if isinstance(method, str) else ""
    if method not in _METHODS:
        raise refuse("method", f"is none of {', '.join(sorted(_METHODS))}")
    target = join_path(facts.base_path, path)
    if params and (query := encode_query(params)):
        target += ("&" if "?" in target else "?") + query
    body, content_type = _encode(data, json, facts.encoding)
    check_headers(headers or {})
    return _Composed(method, target, {**content_type, **(headers or {})}, body)


def _encode(data: Any, json: Any, encoding: Literal["json", "form"]) -> tuple[Any, dict[str, str]]:
    if data is not None and json is not None:
        raise refuse("json", "and data cannot both be sent")
    if data is None and json is None:
        return None, {}
    if isinstance(data, str):
        return encode_text(data), _BYTES
    if isinstance(data, (bytes, bytearray)):
        return bytes(data), _BYTES
    if hasattr(data, "read") or isinstance(data, Iterator):
        return data, _BYTES
    encoding = encoding if json is None else "json"
    return encode_body(data if json is None else json, encoding), {"Content-Type": CONTENT_TYPES[encoding]}


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_MS:
        raise refuse(name, "is not a number of milliseconds above 0 and up to a day")
    return float(value) / 1000
