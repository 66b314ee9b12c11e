"""The way to the server: one origin, one key, bounded answers, and no redirect that could carry the key elsewhere."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit
from weakref import WeakSet

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3.exceptions import HTTPError, ReadTimeoutError

from connections.remote.bodies import Body, read_body
from connections.remote.refusals import refusal_of
from connections.remote.sockets import Connection, Pool, tls_context
from connections.wire.arguments import refuse
from external_apis.errors import BadAnswer, CallTimeout, ConnectFailed, ServiceUnavailable
from external_apis.uploads import SourceFailed, Upload

__all__ = ["API", "Server", "reference_path"]

API = "/api/external"

_CONNECT_SECONDS = 5.0
_WAITS_SECONDS = (0.2, 1.0)
_ABSENCE_SECONDS = 10.0
_MAX_ANSWER_BYTES, _MAX_STREAM_BYTES = 1024 * 1024, 16 * 1024**3
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")
_HEADERS = {
    "User-Agent": "external-api-manager",
    "Accept": "application/json, */*;q=0.8",
    "Accept-Encoding": "gzip, deflate",
}

_servers: WeakSet[Server] = WeakSet()
_absences: dict[str, float] = {}
"""Until when an installation counts as away, on the clock of `time.monotonic`: for all its servers in this process."""


class Server:
    """Asks one installation with one key; safe to share between threads. Printed it names the origin alone.

    It keeps connections open for the next request: `close` it, or use it as a context manager, where that matters. A
    forked child has connections of its own.
    """

    def __init__(
        self,
        base_url: str | None = None,
        key: str | None = None,
        *,
        ca_file: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take what is not given from ``EAM_URL``, ``EAM_KEY`` and ``EAM_CA_FILE``. Raise `InvalidInput`.

        The environment's proxies and ``.netrc`` are not looked at: the key goes to the server and nowhere else.
        """
        self.url = _read_url(base_url or os.environ.get("EAM_URL", ""))
        self._key = key or os.environ.get("EAM_KEY", "")
        if not _KEY.fullmatch(self._key):
            raise refuse("key", "is missing (EAM_KEY), or holds characters that an HTTP header cannot carry")
        origin = urlsplit(self.url)
        self._prefix = origin.path
        tls = tls_context(ca_file or os.environ.get("EAM_CA_FILE")) if origin.scheme == "https" else None
        self._new_pool = partial(Pool, origin.hostname or "", origin.port, tls)
        self._pool = self._new_pool()
        self._sleep = sleep
        _servers.add(self)

    @property
    def asker(self) -> str:
        """What tells one installation and key from another: a digest, from which nobody gets at the key."""
        return hashlib.sha256(f"{self.url}\0{self._key}".encode()).hexdigest()

    @property
    def is_away(self) -> bool:
        """Whether the installation could not be reached a moment ago."""
        return _absences.get(self.url, 0.0) > time.monotonic()

    def note_absence(self) -> None:
        _absences[self.url] = time.monotonic() + _ABSENCE_SECONDS

    def ask(self, path: str, params: Mapping[str, Any], *, timeout_seconds: float = 90.0) -> dict[str, Any]:
        """Return the data of one of the server's own answers; raises its refusal, or as `send` does."""
        deadline = time.monotonic() + timeout_seconds
        target = f"{path}?{urlencode(params)}" if params else path
        response = self.send("GET", target, deadline=deadline, most_bytes=_MAX_ANSWER_BYTES)
        body = read_body(response)
        _absences.pop(self.url, None)
        if response.status_code == 200:
            try:
                answer = json.loads(body)
            except (ValueError, RecursionError):
                answer = None
            if isinstance(answer, dict) and isinstance(answer.get("data"), dict):
                data: dict[str, Any] = answer["data"]
                return data
        refusal = None
        if response.status_code >= 400:
            refusal = refusal_of(response.status_code, response.headers, body)
        raise refusal or self.stranger(response.status_code)

    def stranger(self, status: int) -> ServiceUnavailable:
        """Return the error for an answer that is none of the server's: something before it spoke."""
        return ServiceUnavailable(f"{self.url} answered with status {status}, and not as it does.")

    def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        deadline: float,
        body_deadline: float | None = None,
        most_bytes: int = _MAX_STREAM_BYTES,
    ) -> requests.Response:
        """Send one request and return the answer with its body unread.

        ``target`` is path and query, percent-encoded, and goes out as it is; ``body`` bytes, a file or an iterator of
        bytes. ``deadline``, on the clock of `time.monotonic`, bounds everything; with a ``body_deadline`` the answer's
        body has until that. What could not connect is tried twice more. Raises `ConnectFailed`, `CallTimeout`, and
        `BadAnswer` for an answer that breaks off; reading the body raises the last two.
        """
        fields = CaseInsensitiveDict(_HEADERS)
        fields.update(headers or {})
        request = _Request(method, target, fields, body, most_bytes)
        for attempt, wait in enumerate((*_WAITS_SECONDS, None), 1):
            outcome = self._try(request, deadline, body_deadline or deadline)
            if isinstance(outcome, requests.Response):
                return outcome
            is_repeatable = isinstance(outcome, ConnectFailed) and outcome.is_transient
            if wait is None or not is_repeatable or time.monotonic() + wait >= deadline:
                if isinstance(outcome, ConnectFailed):
                    outcome.attempts = outcome.details["attempts"] = attempt
                raise outcome
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the connections that nobody is using; another request opens one."""
        self._pool.close()

    def forget_connections(self) -> None:
        """Leave all connections to the parent of this process: its answers would come here, and ours there."""
        self._pool = self._new_pool()

    def _try(self, request: _Request, deadline: float, body_deadline: float) -> requests.Response | BaseException:
        """Make one attempt. An error is returned: raised in here it would hold what broke, and that the key."""
        pool, left = self._pool, deadline - time.monotonic()
        if left <= 0:
            return CallTimeout(f"No time was left to call {self.url}.")
        try:
            connection = pool.borrow(min(_CONNECT_SECONDS, left), deadline)
        except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
            return self._explain_unconnected(error)
        sock: Any = connection.sock
        try:
            raw, is_whole = self._exchange(connection, request)
        except SourceFailed as failure:
            connection.close()
            return failure.error
        except (TimeoutError, ReadTimeoutError):
            connection.close()
            return CallTimeout(f"{self.url} did not answer in time.", may_have_happened=True)
        except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
            connection.close()
            return BadAnswer(f"{self.url} broke off ({type(error).__name__}).", may_have_happened=True)
        except BaseException:
            connection.close()
            raise
        sock.deadline = body_deadline
        return _response(request, raw, self.url, partial(_finish, pool, connection, is_whole))

    def _exchange(self, connection: Connection, request: _Request) -> tuple[Any, bool]:
        """Return the answer, and whether all of the request was taken: a server may refuse one before its end."""
        fields, body = {**request.headers, "Authorization": f"Bearer {self._key}"}, request.body
        if body is not None and not isinstance(body, bytes):
            upload = Upload(body)
            body = upload.pieces()
            if upload.length is not None:
                fields["Content-Length"] = str(upload.length)
        is_whole = False
        with suppress(BrokenPipeError):
            connection.request(request.method, self._prefix + request.target, body, fields, preload_content=False)
            is_whole = True
        return connection.getresponse(), is_whole

    def _explain_unconnected(self, error: Exception) -> ConnectFailed:
        if not isinstance(error, ssl.SSLError) and "SSL" not in type(error).__name__:
            return ConnectFailed(f"{self.url} cannot be reached.")
        refusal = ConnectFailed(f"{self.url} shows no certificate that counts here.")
        refusal.is_transient = False
        return refusal

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Server holds a key and is not pickled.")


@dataclass(frozen=True, slots=True, repr=False)
class _Request:
    """``headers`` lack the key: they are shown to whoever has the answer."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Any
    most_bytes: int


def reference_path(reference: str, page: str) -> str:
    """Return the path of a page about a connection. Raises `InvalidInput` for what names none."""
    parts = reference.split("/") if isinstance(reference, str) else []
    if not 1 <= len(parts) <= 2 or any(part in ("", ".", "..") for part in parts):
        raise refuse("reference", "is neither provider/connection, nor a provider's slug, nor a connection's id")
    try:
        return f"{API}/connections/{quote(reference, safe='/')}/{page}"
    except UnicodeEncodeError:
        raise refuse("reference", "holds characters that UTF-8 cannot carry") from None


def _response(request: _Request, raw: Any, origin: str, finish: Callable[[bool], None]) -> requests.Response:
    response = requests.Response()
    response.status_code, response.reason = raw.status, raw.reason
    response.headers = CaseInsensitiveDict(raw.headers.items())
    response.encoding = get_encoding_from_headers(response.headers)
    response.raw = Body(raw, origin, request.most_bytes, finish)
    response.url = origin + request.target
    response.request = prepared = requests.PreparedRequest()
    prepared.method, prepared.url, prepared.body = request.method, response.url, request.body
    prepared.headers = CaseInsensitiveDict(request.headers)
    return response


def _finish(pool: Pool, connection: Connection, *is_reusable: bool) -> None:
    if all(is_reusable):
        pool.give_back(connection)
    else:
        connection.close()


def _read_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.query or parts.fragment or not url.isprintable():
        raise refuse("base_url", "is no http or https URL of the server, without user, query and fragment (EAM_URL)")
    return url.rstrip("/")


def _forget_connections() -> None:
    for server in list(_servers):
        server.forget_connections()


# A connection shared with a forked child would mix up both processes' answers.
os.register_at_fork(after_in_child=_forget_connections)
