"""The guarded transport over real sockets: servers that misbehave, TLS, a proxy, and a DNS that changes its mind."""

from __future__ import annotations

import datetime as dt
import gzip
import ipaddress
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from external_apis.egress import Allowance, Policy
from external_apis.errors import BadAnswer, CallTimeout, ConnectFailed, EgressRefused
from external_apis.transport import Answer, GuardedSession, Origin, Transport, Upload, exchange, shared_transport
from tests.sockets import OK, Play, answering, read_head, serve, trickle

LOOPBACK = Policy((Allowance.parse("127.0.0.1"),))


def send(port: int, *, seconds: float = 5.0, policy: Policy = LOOPBACK, limit: int = 100_000) -> Answer:
    return Transport(policy).send(
        Origin("http", "127.0.0.1", port),
        "GET",
        "/x",
        {},
        None,
        deadline=time.monotonic() + seconds,
        max_body_bytes=limit,
    )


def test_a_connection_is_kept_for_the_next_call() -> None:
    heads: list[bytes] = []

    def play(client: socket.socket) -> None:
        for _ in range(2):
            heads.append(read_head(client))
            client.sendall(OK)

    with serve(play) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        for _ in range(2):
            deadline = time.monotonic() + 5
            assert transport.send(origin, "GET", "/x?a=1", {"A": "b"}, None, deadline=deadline).body == b"ok"
    assert heads == [f"GET /x?a=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nA: b\r\n\r\n".encode()] * 2


def test_a_connection_that_the_server_closed_is_replaced() -> None:
    with serve(answering(OK)) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        for _ in range(3):
            assert transport.send(origin, "GET", "/", {}, None, deadline=time.monotonic() + 5).body == b"ok"
            time.sleep(0.05)  # the server's FIN has to arrive


EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


def answer_to_itself(client: socket.socket) -> bytes:
    path = read_head(client).split()[1]
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path)


@pytest.mark.parametrize("interim", [EARLY_HINTS, EARLY_HINTS * 19, b"HTTP/1.1 102 Processing\r\n\r\n" + EARLY_HINTS])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_interim_answers_are_nobodys_answer(interim: bytes, is_streamed: bool) -> None:
    """Taken for the answer, one would leave the real one in the connection, for the next caller to get."""

    def play(client: socket.socket) -> None:
        while True:
            answer = answer_to_itself(client)
            client.sendall(interim)
            time.sleep(0.01)
            client.sendall(answer)

    with serve(play) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        for path in ("/tenant-a", "/tenant-b", "/tenant-c"):
            deadline = time.monotonic() + 5
            answer = transport.send(
                origin, "GET", path, {}, None, deadline=deadline, stream_deadline=deadline if is_streamed else None
            )
            body = answer.stream.read() if answer.stream else answer.body
            assert (answer.status, body) == (200, path.encode())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(EARLY_HINTS * 21, id="interim answers without end"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 5\r\n\r\n{}abc", id="two lengths in one"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", id="a negative length"),
    ],
)
def test_an_answer_whose_end_is_not_certain_is_none(answer: bytes) -> None:
    connections: list[int] = []

    def play(client: socket.socket) -> None:
        connections.append(1)
        while True:
            read_head(client)
            client.sendall(answer)

    with serve(play) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        for _ in range(2):
            with pytest.raises(BadAnswer) as caught:
                transport.send(origin, "GET", "/", {}, None, deadline=time.monotonic() + 5)
            assert caught.value.may_have_happened
    assert len(connections) == 2


@pytest.mark.parametrize(
    "excess",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", id="an answer to nothing"),
        pytest.param(b"x", id="a byte"),
    ],
)
@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_connection_with_unread_bytes_is_not_used_again(excess: bytes, answer: bytes, is_streamed: bool) -> None:
    connections: list[int] = []

    def play(client: socket.socket) -> None:
        connections.append(1)
        while True:
            read_head(client)
            client.sendall(answer + excess)

    with serve(play) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        for _ in range(3):
            deadline = time.monotonic() + 5
            given = transport.send(
                origin, "GET", "/", {}, None, deadline=deadline, stream_deadline=deadline if is_streamed else None
            )
            assert (given.stream.read() if given.stream else given.body) == b"ok"
    assert len(connections) == 3


@pytest.mark.parametrize(
    "play",
    [
        pytest.param(lambda client: time.sleep(3), id="silent"),
        pytest.param(trickle(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), id="head trickles"),
        pytest.param(trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"), id="body trickles"),
        pytest.param(
            trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), id="chunks trickle"
        ),
        pytest.param(trickle(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), id="no length"),
    ],
)
def test_nothing_outlasts_the_deadline(play: Play) -> None:
    with serve(play) as port:
        started = time.monotonic()
        with pytest.raises((CallTimeout, BadAnswer)) as caught:
            send(port, seconds=0.3)
        # http.client refuses more than 100 header lines, which may come first.
        assert time.monotonic() - started < 1.5
    assert caught.value.may_have_happened


def test_a_kept_connection_keeps_the_new_deadline() -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(OK)
        time.sleep(3)

    with serve(play) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        transport.send(origin, "GET", "/", {}, None, deadline=time.monotonic() + 5)
        started = time.monotonic()
        with pytest.raises(CallTimeout):
            transport.send(origin, "GET", "/", {}, None, deadline=started + 0.2)
        assert time.monotonic() - started < 1.5


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


NOT_COMPLETE = "its answer is not complete"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(b"", "closed the connection without an answer", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Ty", NOT_COMPLETE, id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", NOT_COMPLETE, id="shorter than it says"),
        pytest.param(CHUNKED + b"5\r\nab", NOT_COMPLETE, id="half a chunk"),
        pytest.param(CHUNKED + b"5\r\nabcde\r\n", "", id="no last chunk"),
        pytest.param(CHUNKED + b"zz\r\n", NOT_COMPLETE, id="a chunk of no size"),
        pytest.param(b"EHLO\r\n\r\n\x00\xff", "no HTTP answer", id="no HTTP"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "header is too long", id="a line without end"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "header is not usable", id="headers without end"
        ),
    ],
)
def test_a_broken_answer_is_an_error_that_may_be_tried_again(answer: bytes, told: str) -> None:
    with serve(answering(answer)) as port, pytest.raises(BadAnswer, match=f"broke off: .*{told}") as caught:
        send(port)
    assert not re.search(r"[a-z][A-Z]", caught.value.message), "the name of a class"
    assert caught.value.may_have_happened
    assert caught.value.is_transient


def packed(body: bytes, encoding: str = "gzip") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        encoding.encode(), len(body), body,
    )  # fmt: skip


BIG = b"0" * 1_000_000
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(b"hello") + RAW.flush()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + BIG, id="announced"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + BIG, id="until it closes"),
        pytest.param(CHUNKED + b"f4240\r\n" + BIG + b"\r\n0\r\n\r\n", id="in chunks"),
        pytest.param(packed(gzip.compress(BIG)), id="gzip bomb"),
        pytest.param(packed(b"".join(gzip.compress(b"0" * 60_000) for _ in range(3))), id="bomb in members"),
    ],
)
def test_an_answer_over_the_limit_is_not_read(answer: bytes) -> None:
    with serve(answering(answer)) as port, pytest.raises(BadAnswer, match="longer than 100000 bytes") as caught:
        send(port)
    assert not caught.value.is_transient


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"hello", mtime=0), "gzip"),
        (gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0), "GZIP"),
        (zlib.compress(b"hello"), "deflate"),
        (RAW_DEFLATE, "deflate"),
        (b"hello", "utf-8"),
    ],
)
def test_a_packed_answer_is_unpacked(body: bytes, encoding: str) -> None:
    with serve(answering(packed(body, encoding))) as port:
        assert send(port).body == b"hello"


@pytest.mark.parametrize(
    "body", [b"not gzip", gzip.compress(b"hello", mtime=0)[:-9], gzip.compress(b"hello", mtime=0)[:5], b"\x1f\x8b"]
)
def test_broken_packing_is_an_error(body: bytes) -> None:
    with serve(answering(packed(body))) as port, pytest.raises(BadAnswer, match="compression is broken"):
        send(port)


def test_what_follows_an_answer_is_not_taken_for_the_next_one() -> None:
    poisoned = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    with serve(answering(poisoned, OK)) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        for _ in range(2):
            assert transport.send(origin, "GET", "/", {}, None, deadline=time.monotonic() + 5).body == b"ok"


def test_an_answer_that_comes_before_the_body_was_sent_counts() -> None:
    refusal = b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(refusal)
        client.shutdown(socket.SHUT_RD)
        time.sleep(0.2)

    with serve(play) as port:
        origin, body = Origin("http", "127.0.0.1", port), b"x" * 5_000_000
        answer = Transport(LOOPBACK).send(origin, "POST", "/", {}, body, deadline=time.monotonic() + 5)
    assert answer.status == 413


def test_connections_that_lay_idle_for_long_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bytes] = []

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(OK)
        left.append(client.recv(1))

    with serve(play) as once, serve(answering(OK)) as port:
        transport = Transport(LOOPBACK)
        transport.send(Origin("http", "127.0.0.1", once), "GET", "/", {}, None, deadline=time.monotonic() + 5)
        monkeypatch.setattr(exchange, "_IDLE_SECONDS", 0.0)
        transport.send(Origin("http", "127.0.0.1", port), "GET", "/", {}, None, deadline=time.monotonic() + 5)
        assert [origin.port for origin in transport._idle] == [port]
        deadline = time.monotonic() + 5
        while not left and time.monotonic() < deadline:
            time.sleep(0.01)
    assert left == [b""]


def test_a_forked_child_has_connections_of_its_own() -> None:
    peers: list[int] = []

    def play(client: socket.socket) -> None:
        peers.append(client.getpeername()[1])
        for _ in range(3):
            read_head(client)
            client.sendall(OK)

    with serve(play) as port:
        subprocess.run([sys.executable, "-c", FORK, str(port)], check=True, timeout=30, cwd=Path(__file__).parents[2])
    assert len(set(peers)) == 2


FORK = """
import os, sys, time
from external_apis.egress import Allowance, Policy
from external_apis.transport import Origin, Transport
transport, origin = Transport(Policy((Allowance.parse("127.0.0.1"),))), Origin("http", "127.0.0.1", int(sys.argv[1]))
def call():
    assert transport.send(origin, "GET", "/", {}, None, deadline=time.monotonic() + 5).body == b"ok"
call()
if os.fork() == 0:
    call()
    os._exit(0)
assert os.wait()[1] == 0
call()
"""


def test_nobody_listening_is_an_error_and_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectFailed, match="Connection refused") as caught:
        send(port)
    assert not caught.value.may_have_happened


@pytest.mark.parametrize(("code", "is_transient"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_a_name_that_there_is_not_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, code: int, is_transient: bool
) -> None:
    def resolve(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(code, "of the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    origin = Origin("http", "nowhere.example", 80)
    with pytest.raises(ConnectFailed, match="does not resolve") as caught:
        Transport(LOOPBACK).send(origin, "GET", "/", {}, None, deadline=time.monotonic() + 5)
    assert caught.value.is_transient is is_transient


def test_an_unresolvable_name_is_an_error() -> None:
    with pytest.raises(ConnectFailed, match="does not resolve"):
        Transport(LOOPBACK).send(
            Origin("http", "nowhere.invalid", 80), "GET", "/", {}, None, deadline=time.monotonic() + 5
        )


def test_the_guard_stands_before_every_connection() -> None:
    connected: list[socket.socket] = []
    with serve(connected.append) as port, pytest.raises(EgressRefused, match="loopback"):
        send(port, policy=Policy())
    assert not connected


def test_a_name_that_resolves_differently_the_second_time_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one that is connected to; a second look-up does not happen."""
    lookups: list[str] = []

    def rebind(host: str, port: int, **_: Any) -> list[Any]:
        lookups.append(host)
        address = "127.0.0.1" if len(lookups) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with serve(answering(OK)) as port:
        monkeypatch.setattr(socket, "getaddrinfo", rebind)
        answer = Transport(LOOPBACK).send(
            Origin("http", "rebind.test", port), "GET", "/", {}, None, deadline=time.monotonic() + 5
        )
    assert answer.body == b"ok"
    assert lookups == ["rebind.test"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.test/",
        "file:///etc/passwd",
        "//a.test/",
        "/x",
        "http://",
        "http://user:pw@a.test/",
        "http://[::1/",
        "http://127。0。0。1/",
    ],
)
def test_only_plain_http_urls_have_an_origin(url: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        Origin.of(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("HTTP://A.test:80/x", "http://a.test"),
        ("https://a.test:8443", "https://a.test:8443"),
        ("https://bücher.test/", "https://xn--bcher-kva.test"),
    ],
)
def test_an_origin_is_canonical(url: str, text: str) -> None:
    assert str(Origin.of(url)) == text


# --- TLS and proxies -----------------------------------------------------------------------------------------------


_KEY_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Authority:
    """A certificate authority for one test, and server contexts with certificates that it signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        signs_only = dict.fromkeys(_KEY_USES, False) | {"key_cert_sign": True, "crl_sign": True}
        extensions = [x509.BasicConstraints(ca=True, path_length=None), x509.KeyUsage(**signs_only)]
        certificate = self._sign(self._name, self._key.public_key(), extensions)
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, name: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        if name[0].isdigit():
            names = [x509.IPAddress(ipaddress.ip_address(name))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), [x509.SubjectAlternativeName(names)])
        file = self._folder / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(self, subject: x509.Name, key: Any, extensions: list[Any]) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )
        # From Python 3.13 on certificates are held to RFC 5280: the key identifiers, and which extensions are critical.
        own, issuer = x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier
        extensions = [*extensions, own.from_public_key(key), issuer.from_issuer_public_key(self._key.public_key())]
        for extension in extensions:
            is_critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def send_tls(port: int, policy: Policy, host: str = "127.0.0.1") -> Answer:
    origin = Origin("https", host, port)
    return Transport(policy).send(origin, "GET", "/", {}, None, deadline=time.monotonic() + 5)


def test_tls_accepts_the_authority_of_the_settings(authority: Authority) -> None:
    with serve(answering(OK), context=authority.context("127.0.0.1")) as port:
        assert send_tls(port, Policy(LOOPBACK.allow, "", str(authority.file))).body == b"ok"
        with pytest.raises(ConnectFailed, match="certificate is not accepted"):
            send_tls(port, LOOPBACK)


def test_what_lies_in_the_tls_layer_is_not_waited_for(authority: Authority) -> None:
    """The socket is empty when a record has been read, also where the buffer above took only a part of it."""
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 12_000)  # one record
        may_end.wait(5)

    with serve(play, context=authority.context("127.0.0.1")) as port:
        origin, deadline = Origin("https", "127.0.0.1", port), time.monotonic() + 5
        transport = Transport(Policy(LOOPBACK.allow, "", str(authority.file)))
        stream = transport.send(
            origin, "GET", "/", {}, None, deadline=deadline, stream_deadline=deadline, is_raw=True
        ).stream
        assert stream is not None
        taken = len(stream.read(99_999))  # what the buffer held
        assert stream._sock.pending() == 12_000 - taken > 0
        assert stream.wait(0) is True
        assert len(stream.read(99_999)) == 12_000 - taken
        assert stream.wait(0) is False
        may_end.set()


def test_tls_verifies_the_hosts_name(authority: Authority) -> None:
    accepting = Policy(LOOPBACK.allow, "", str(authority.file))
    with (
        serve(answering(OK), context=authority.context("other.test")) as port,
        pytest.raises(ConnectFailed, match="certificate is not accepted") as caught,
    ):
        send_tls(port, accepting)
    assert not caught.value.may_have_happened


def test_a_trickle_over_tls_does_not_outlast_the_deadline(authority: Authority) -> None:
    play = trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x")
    with serve(play, context=authority.context("127.0.0.1")) as port:
        transport = Transport(Policy(LOOPBACK.allow, "", str(authority.file)))
        started = time.monotonic()
        with pytest.raises(CallTimeout):
            transport.send(Origin("https", "127.0.0.1", port), "GET", "/", {}, None, deadline=started + 0.3)
        assert time.monotonic() - started < 1.5


def proxy(heads: list[bytes]) -> Play:
    """A proxy that connects every tunnel to the loopback, and answers forwarded requests itself."""

    def play(client: socket.socket) -> None:
        head = read_head(client)
        heads.append(head)
        if not head.startswith(b"CONNECT"):
            client.sendall(OK)
            return
        upstream = socket.create_connection(("127.0.0.1", int(head.split()[1].rpartition(b":")[2])))
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
        pump(client, upstream)

    return play


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_https_goes_through_the_proxys_tunnel_and_still_verifies_the_name(authority: Authority) -> None:
    heads: list[bytes] = []
    with serve(answering(OK), context=authority.context("api.test")) as port, serve(proxy(heads)) as proxy_port:
        through = Policy((), f"http://user:p%40ss@127.0.0.1:{proxy_port}", str(authority.file))
        assert send_tls(port, through, "api.test").body == b"ok"
        with pytest.raises(ConnectFailed, match="certificate is not accepted"):
            send_tls(port, through, "other.test")
    assert heads[0].startswith(f"CONNECT api.test:{port} HTTP".encode())
    assert b"proxy-authorization: Basic dXNlcjpwQHNz\r\n" in heads[0]


def test_http_is_forwarded_by_the_proxy() -> None:
    heads: list[bytes] = []
    with serve(proxy(heads)) as proxy_port:
        through = Transport(Policy((), f"http://127.0.0.1:{proxy_port}"))
        deadline = time.monotonic() + 5
        assert through.send(Origin("http", "api.test", 80), "GET", "/x?a=1", {}, None, deadline=deadline).body == b"ok"
        with pytest.raises(EgressRefused):
            through.send(Origin("http", "169.254.169.254", 80), "GET", "/", {}, None, deadline=deadline)
    assert heads == [b"GET http://api.test/x?a=1 HTTP/1.1\r\nHost: api.test\r\n\r\n"]


# --- the session ---------------------------------------------------------------------------------------------------


def test_the_session_follows_no_redirect_and_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    with serve(answering(redirect)) as port:
        response = GuardedSession(LOOPBACK).get(f"http://127.0.0.1:{port}/a?b=c", timeout=(1, 2))
    assert response.status_code == 302
    assert response.url.endswith("/a?b=c")


def test_the_sessions_errors_hold_no_url() -> None:
    with serve(answering(b"")) as port, pytest.raises(BadAnswer) as caught:
        GuardedSession(LOOPBACK).post(f"http://127.0.0.1:{port}/token?secret=hunter22", data={"a": "b"})
    assert "hunter22" not in repr(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(EgressRefused):
        GuardedSession(Policy()).get("http://127.0.0.1/")


def test_the_session_ends_a_call_after_its_timeout() -> None:
    with serve(lambda client: time.sleep(3)) as port, pytest.raises(CallTimeout):
        GuardedSession(LOOPBACK).get(f"http://127.0.0.1:{port}/", timeout=0.2)


def test_the_transport_is_shared_by_policy() -> None:
    assert shared_transport(LOOPBACK) is shared_transport(Policy((Allowance.parse("127.0.0.1"),)))
    assert shared_transport(LOOPBACK) is not shared_transport(Policy())


def test_an_answer_to_an_upload_that_nobody_reads_is_found_under_tls_too(authority: Authority) -> None:
    """The other side has answered and hung up; writing fails, and what it said is still there."""

    def play(client: socket.socket) -> None:
        # Or the answer waits behind the handshake's last word, and hanging up with something unread throws it away.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_head(client)
        client.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")

    with serve(play, context=authority.context("127.0.0.1")) as port:
        now = time.monotonic()
        answer = Transport(Policy(LOOPBACK.allow, "", str(authority.file))).send(
            Origin("https", "127.0.0.1", port), "POST", "/", {}, Upload(bytes(65_536) for _ in range(200)),
            deadline=now + 5,
        )  # fmt: skip
    assert (answer.status, answer.body) == (413, b"no")


def test_trailers_without_end_take_no_memory() -> None:
    """They are thrown away line by line, once it is clear that they do not fit."""

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        while True:
            client.sendall(b"X: y\r\n" * 1_000)

    with serve(play) as port:
        now = time.monotonic()
        stream = Transport(LOOPBACK).send(
            Origin("http", "127.0.0.1", port), "GET", "/", {}, None, deadline=now + 5, stream_deadline=now + 5,
            is_raw=True,
        ).stream  # fmt: skip
        assert stream is not None
        assert stream.wait(5)
        assert len(stream._response._valve.ahead) < 200_000
        stream.close()
