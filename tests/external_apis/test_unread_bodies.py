"""What a view left of a request's body; `tests/hostile/test_wire.py` shows over the wire what it is read for."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from external_apis.body_places import Places
from external_apis.request_context import RequestContextMiddleware
from external_apis.unread_bodies import UnreadBodyMiddleware

MIB = 2**20


class Sent(io.RawIOBase):
    """A body on its way: says how much of it was read, and fails if it is to."""

    def __init__(self, length: int, error: Exception | None = None) -> None:
        self.length, self.error, self.was_read, self.reads = length, error, 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.reads += 1
        if self.error is not None:
            raise self.error
        count = min(len(buffer), self.length - self.was_read)
        self.was_read += count
        return count


def refuse(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"no", status=413)


@pytest.fixture(autouse=True)
def _one_place(settings: Any) -> None:
    """A place that is not given back is one that all others miss."""
    settings.WEB_THREADS = 12


def answer(middleware: UnreadBodyMiddleware, sent: Sent, announced: str | None = None) -> Any:
    """Return the answer as a server gets it, which closes it when it has sent it."""
    length = str(sent.length) if announced is None else announced
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length, "wsgi.input": sent}
    return middleware(RequestFactory().request(**environ))


@pytest.mark.parametrize("length", [100, 65_536, 300_000])
def test_many_refused_requests_in_a_row_are_all_read(length: int) -> None:
    middleware = UnreadBodyMiddleware(refuse)
    bodies = [Sent(length) for _ in range(20)]
    for sent in bodies:
        answer(middleware, sent).close()
    assert [sent.was_read for sent in bodies] == [length] * 20


def test_a_client_that_has_gone_is_nobodys_trouble() -> None:
    middleware = UnreadBodyMiddleware(refuse)
    gone = [Sent(100, OSError()) for _ in range(20)]
    for sent in gone:
        answer(middleware, sent).close()
    assert [sent.reads for sent in gone] == [1] * 20


def test_a_read_that_fails_otherwise_gives_its_place_back() -> None:
    middleware = UnreadBodyMiddleware(refuse)
    for _ in range(20):
        with pytest.raises(RuntimeError, match="odd"):
            answer(middleware, Sent(100, RuntimeError("odd"))).close()
    sent = Sent(100)
    answer(middleware, sent).close()
    assert sent.was_read == 100


def test_the_answer_goes_first() -> None:
    """Whoever sends a long body before it reads would else wait for its end, and we with it."""
    ended: list[int] = []

    class Watched(HttpResponse):
        def close(self) -> None:
            ended.append(sent.was_read)
            super().close()

    sent = Sent(100)
    response = answer(UnreadBodyMiddleware(lambda _: Watched(b"no", status=401)), sent)
    assert sent.reads == 0
    assert response.headers["Content-Length"] == "2"
    response.close()
    assert ended == [0]
    assert response.closed
    assert sent.was_read == 100


def test_a_stream_keeps_its_length_to_itself() -> None:
    def view(_request: HttpRequest) -> Any:
        return StreamingHttpResponse(iter([b"a"]))

    sent = Sent(100)
    response = answer(UnreadBodyMiddleware(view), sent)
    assert "Content-Length" not in response.headers
    response.close()
    assert sent.was_read == 100


@pytest.mark.parametrize(
    ("length", "status", "is_read"),
    [
        (32 * MIB, 413, True),
        (32 * MIB + 1, 413, False),
        (65_536, 200, True),
        (65_537, 200, False),
        (65_537, 399, False),
        (65_537, 400, True),
    ],
)
def test_long_bodies_are_read_where_they_were_refused_and_huge_ones_nowhere(
    length: int, status: int, is_read: bool
) -> None:
    """Whoever answers well without a long body may still mean to read it: a stream that begins does."""
    sent = Sent(length)
    answer(UnreadBodyMiddleware(lambda _: HttpResponse(status=status)), sent).close()
    assert sent.was_read == (length if is_read else 0)


@pytest.mark.parametrize("announced", ["", "0", "ten", "-1", "1e3", "\u0663", "9" * 400])
def test_of_a_body_without_a_sensible_length_nothing_is_read(announced: str) -> None:
    sent = Sent(100)
    answer(UnreadBodyMiddleware(refuse), sent, announced).close()
    assert sent.reads == 0


def _read_all(request: HttpRequest) -> None:
    assert len(request.body) == 100


def _read_a_piece(request: HttpRequest) -> None:
    assert len(request.read(10)) == 10


@pytest.mark.parametrize("read", [_read_all, _read_a_piece])
def test_what_a_view_has_read_is_not_read_again(read: Callable[[HttpRequest], None]) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        read(request)
        return HttpResponse(status=400)

    middleware, sent = UnreadBodyMiddleware(view), Sent(100)
    middleware.places = cast("Places", None)  # nor is there a place to wait for
    response = answer(middleware, sent)
    before = sent.reads
    response.close()
    assert sent.reads == before


def test_nothing_is_read_while_all_places_are_taken() -> None:
    middleware, late, next_one = UnreadBodyMiddleware(refuse), Sent(100), Sent(100)
    assert middleware.places.take("192.0.2.1")
    answer(middleware, late).close()
    assert late.reads == 0
    middleware.places.leave("192.0.2.1")
    answer(middleware, next_one).close()
    assert next_one.was_read == 100


def test_a_place_that_is_about_to_be_free_is_waited_for() -> None:
    middleware, sent = UnreadBodyMiddleware(refuse), Sent(100)
    assert middleware.places.take("192.0.2.1")
    timer = threading.Timer(0.01, middleware.places.leave, ["192.0.2.1"])
    timer.start()
    answer(middleware, sent).close()
    timer.join()
    assert sent.was_read == 100


@pytest.mark.parametrize(("threads", "places"), [(1, 1), (12, 1), (24, 2), (96, 8), (1024, 8)])
def test_few_threads_read(settings: Any, threads: int, places: int) -> None:
    settings.WEB_THREADS = threads
    taken = UnreadBodyMiddleware(refuse).places
    assert [number for number in range(places + 1) if taken.take(f"192.0.2.{number}")] == [*range(places)]


@pytest.mark.parametrize(("one", "other"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")])
def test_nobody_alone_has_all_places(settings: Any, one: str, other: str) -> None:
    settings.WEB_THREADS = 96
    places = UnreadBodyMiddleware(refuse).places
    assert [places.take(one) for _ in range(3)] == [True, True, False]
    assert places.take(other)
    places.leave(one)
    assert places.take(one)


def test_whose_body_it_is_tells_whose_place_it_takes(settings: Any) -> None:
    settings.WEB_THREADS = 96
    middleware = UnreadBodyMiddleware(refuse)
    for _ in range(2):
        assert middleware.places.take("192.0.2.1")
    read = {}
    for address in ("192.0.2.1", "192.0.2.2"):
        sent = Sent(100)
        environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "100", "wsgi.input": sent}
        request = RequestFactory().request(**environ, REMOTE_ADDR=address)
        RequestContextMiddleware(middleware)(request).close()
        read[address] = sent.was_read
    assert read == {"192.0.2.1": 0, "192.0.2.2": 100}
