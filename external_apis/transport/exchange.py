"""One request and its answer over a connection that is kept for the next."""

from __future__ import annotations

import http.client
import os
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from weakref import WeakSet

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPHeaderDict
from urllib3.connection import ProxyConfig
from urllib3.exceptions import HTTPError
from urllib3.util import Url, create_urllib3_context, make_headers, parse_url

from external_apis.deadline_sockets import DeadlineTLSSocket
from external_apis.egress import Policy, current_policy
from external_apis.errors import BadAnswer, CallTimeout, ConnectFailed
from external_apis.transport.bodies import MAX_BODY_BYTES, StreamedBody, read_bounded
from external_apis.transport.breaks import explain, is_certain
from external_apis.transport.client_certificate import ClientCertificate
from external_apis.transport.origin import Origin
from external_apis.transport.responses import Response
from external_apis.transport.sockets import GuardedConnection, PlainConnection, TLSConnection
from external_apis.uploads import SourceFailed, Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Answer", "Transport", "shared_transport"]

_IDLE_PER_ORIGIN, _IDLE_SECONDS = 64, 60.0
_transports: WeakSet[Transport] = WeakSet()


@dataclass(slots=True)
class Answer:
    """An answer, unpacked and bounded: read whole into ``body``, or to be read from ``stream``."""

    status: int
    reason: str
    headers: HTTPHeaderDict
    body: bytes = field(default=b"", repr=False)
    stream: StreamedBody | None = field(default=None, repr=False)


class Transport:
    """Keeps connections alive by origin; one for a policy and process (`shared_transport`), used by all threads."""

    def __init__(self, policy: Policy, certificate: ClientCertificate | None = None) -> None:
        self.policy = policy
        self._tls = self._proxy_tls = _tls_context(policy)
        if certificate is not None:
            self._tls = _tls_context(policy)
            certificate.load_into(self._tls)
        self._proxy = parse_url(policy.proxy) if policy.proxy else None
        self._proxy_headers = _proxy_headers(self._proxy)
        self._idle: dict[Origin, deque[tuple[float, GuardedConnection]]] = {}
        _transports.add(self)

    def send(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Upload | None,
        *,
        deadline: float,
        max_body_bytes: int = MAX_BODY_BYTES,
        stream_deadline: float | None = None,
        is_raw: bool = False,
    ) -> Answer:
        """Send one request and return its answer, whatever its status.

        ``target`` is path and query, percent-encoded; ``deadline`` is on the clock of `time.monotonic` and bounds the
        whole exchange. With a ``stream_deadline`` it bounds only what comes before the answer's body, which is then not
        read but given as ``stream``, and has until that other deadline. One that ``is_raw`` passes somebody else's
        bodies through: the stream is not unpacked, and an upload has until that deadline too, each piece of it as long
        as ``deadline`` leaves for the connecting and, once all is sent, for the answer.

        Raises `EgressRefused`; `ConnectFailed` and `CallTimeout` when nothing was sent; `CallTimeout` and `BadAnswer`
        with ``may_have_happened`` when something was.
        """
        patience = deadline - monotonic()
        connection = self._borrow(origin, deadline)
        try:
            if is_raw and isinstance(body, Upload) and stream_deadline is not None:
                connection.keep_deadline(deadline)
                last = stream_deadline
                is_whole = self._write(
                    connection, origin, method, target, headers, body, lambda: min(last, monotonic() + patience)
                )
                connection.keep_deadline(monotonic() + patience)
            else:
                is_whole = self._write(connection, origin, method, target, headers, body)
            sock: Any = connection.sock
            response: Any = http.client.HTTPConnection.getresponse(connection)
            answer = Answer(response.status, response.reason, HTTPHeaderDict(response.headers.items()))
            if stream_deadline is not None:
                sock.deadline = stream_deadline
                finish = partial(self._finish, origin, connection, response, is_whole)
                answer.stream = StreamedBody(response, str(origin), max_body_bytes, finish, sock, is_raw=is_raw)
                return answer
            answer.body = read_bounded(response, max_body_bytes)
        except SourceFailed as failure:
            connection.close()
            raise failure.error from None
        except TimeoutError:
            connection.close()
            raise CallTimeout(f"{origin} did not answer in time.", may_have_happened=True) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            broken = BadAnswer(f"{origin} broke off: {explain(error)}.", may_have_happened=True)
            broken.is_transient = True  # unlike an answer that is too long or badly packed
            raise broken from None
        except BaseException:
            connection.close()
            raise
        self._finish(origin, connection, response, is_whole)
        return answer

    def _finish(self, origin: Origin, connection: GuardedConnection, response: Response, *is_reusable: bool) -> None:
        if all(is_reusable) and not response.has_leftover and not connection.has_unread:
            self._give_back(origin, connection)
        else:
            connection.close()

    def _write(  # noqa: PLR0917
        self,
        connection: GuardedConnection,
        origin: Origin,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Upload | None,
        deadline_of_piece: Callable[[], float] | None = None,
    ) -> bool:
        """Send the request; False when the other side did not take all of it, and may have answered already.

        ``deadline_of_piece`` gives each piece of an upload a time of its own, instead of one for all.
        """
        is_forwarded = self._proxy is not None and origin.scheme == "http"
        connection.putrequest(
            method, f"{origin}{target}" if is_forwarded else target, skip_host=True, skip_accept_encoding=True
        )
        connection.putheader("Host", origin.host_header)
        for name, value in headers.items():
            connection.putheader(name, value)
        if is_forwarded:
            for name, value in self._proxy_headers.items():
                connection.putheader(name, value)
        is_chunked = isinstance(body, Upload) and body.length is None
        if is_chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None or method in ("POST", "PUT", "PATCH"):
            length = body.length if isinstance(body, Upload) else len(body or b"")
            connection.putheader("Content-Length", str(length))
        try:
            if isinstance(body, Upload):
                connection.endheaders()
                return _write_pieces(connection, body, deadline_of_piece)
            connection.endheaders(body)
        except (ConnectionError, ssl.SSLError):
            return False
        return True

    def _borrow(self, origin: Origin, deadline: float) -> GuardedConnection:
        now = monotonic()
        if now >= deadline:
            raise CallTimeout(f"No time was left to call {origin}.")
        idle = self._idle.get(origin)
        while idle:
            try:
                since, connection = idle.pop()
            except IndexError:  # another thread took the last one
                break
            if now - since < _IDLE_SECONDS and connection.is_connected:
                connection.keep_deadline(deadline)
                return connection
            connection.close()
        return self._connect(origin, deadline)

    def _give_back(self, origin: Origin, connection: GuardedConnection) -> None:
        if connection.sock is None:  # the upstream asked for the end
            return
        idle = self._idle.setdefault(origin, deque())
        if len(idle) < _IDLE_PER_ORIGIN:
            idle.append((monotonic(), connection))
        else:
            connection.close()

    def _close_forgotten(self) -> None:
        """Close what lay idle for too long: origins that were called once, such as those of redirects."""
        oldest = monotonic() - _IDLE_SECONDS
        for origin, idle in list(self._idle.items()):
            with suppress(IndexError):  # another thread may take the last one
                while idle[0][0] < oldest:
                    idle.popleft()[1].close()
            if not idle:
                self._idle.pop(origin, None)

    def forget_connections(self) -> None:
        """Let go of all idle connections without a word to the other side."""
        self._idle = {}

    def _connect(self, origin: Origin, deadline: float) -> GuardedConnection:
        self._close_forgotten()
        self.policy.check_name(origin.host, origin.port)
        connection = self._new_connection(origin)
        connection.policy = None if self._proxy else self.policy
        connection.timeout = max(deadline - monotonic(), 0.001)
        try:
            connection.connect()
        except TimeoutError:
            connection.close()
            raise CallTimeout(f"{origin} could not be connected to in time.") from None
        except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
            connection.close()
            failed = ConnectFailed(f"{origin} could not be connected to: {explain(error)}.")
            failed.is_transient = not is_certain(error)
            raise failed from None
        except BaseException:
            connection.close()
            raise
        connection.keep_deadline(deadline)
        return connection

    def _new_connection(self, origin: Origin) -> GuardedConnection:
        if self._proxy is None:
            if origin.scheme == "https":
                return TLSConnection(origin.host.strip("[]"), origin.port, ssl_context=self._tls)
            return PlainConnection(origin.host.strip("[]"), origin.port)
        hop = Origin.of(self._proxy._replace(auth=None))
        options: dict[str, Any] = {
            "proxy": self._proxy,
            "proxy_config": ProxyConfig(self._proxy_tls, False, None, None),
        }
        if origin.scheme == "https" or hop.scheme == "https":
            connection: GuardedConnection = TLSConnection(
                hop.host.strip("[]"), hop.port, ssl_context=self._tls, **options
            )
        else:
            connection = PlainConnection(hop.host.strip("[]"), hop.port, **options)
        if origin.scheme == "https":
            connection.set_tunnel(origin.host.strip("[]"), origin.port, headers=self._proxy_headers, scheme=hop.scheme)
        return connection


def _write_pieces(connection: GuardedConnection, body: Upload, deadline_of_piece: Callable[[], float] | None) -> bool:
    for piece in body.pieces():
        if deadline_of_piece is not None:
            connection.keep_deadline(deadline_of_piece())
        framed = piece if body.length is not None else b"%x\r\n%b\r\n" % (len(piece), piece)
        if not connection.push(framed):
            return False
    return body.length is not None or connection.push(b"0\r\n\r\n")


def shared_transport(policy: Policy | None = None, certificate: ClientCertificate | None = None) -> Transport:
    """Return this process's transport for the policy, or for that of the settings.

    With a certificate it is one of its own, whose connections are shared by nobody else.
    """
    return _make_transport(policy or current_policy(), certificate)


@lru_cache(maxsize=64)
def _make_transport(policy: Policy, certificate: ClientCertificate | None) -> Transport:
    return Transport(policy, certificate)


def _tls_context(policy: Policy) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    if policy.ca_file:
        context.load_verify_locations(policy.ca_file)
    context.sslsocket_class = DeadlineTLSSocket
    return context


def _forget_connections() -> None:
    for transport in list(_transports):
        transport.forget_connections()


# A socket shared with a forked child would mix up both processes' answers.
os.register_at_fork(after_in_child=_forget_connections)


def _proxy_headers(proxy: Url | None) -> dict[str, str]:
    return make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy and proxy.auth else {}
