"""Each misbehaviour does what its name says, and nothing more: read off the wire or by a client that must cope."""

from __future__ import annotations

import gzip
import http.client
import socket
import time
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any

import pytest
import requests
import urllib3

from connections.sandbox.server import CLIENTS
from tests.connections.sandbox.conftest import Client, exchange
from tests.sandbox import Sandbox


def get_raw(sandbox: Sandbox, path: str) -> bytes:
    return exchange(
        sandbox.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), has_more=True
    )


class TestStatuses:
    @pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 404, 418, 429, 500, 503, 599])
    def test_any_status_on_a_connection_that_goes_on(self, client: Client, status: int) -> None:
        for method in ("GET", "POST", "HEAD"):
            assert client(method, f"/status/{status}").status_code == status

    @pytest.mark.parametrize("status", ["199", "600", "20", "2000", "abc", "-1", "%D9%A2%D9%A0%D9%A0"])
    def test_no_other(self, client: Client, status: str) -> None:
        assert client.get(f"/status/{status}").status_code == 400

    def test_retry_after(self, client: Client) -> None:
        assert client.get("/status/503?retry_after=7").headers["Retry-After"] == "7"
        assert client.get("/status/503?retry_after=x%0d%0aSet-Cookie:1").status_code == 400


class TestSlowness:
    def test_seconds(self, client: Client) -> None:
        began = time.monotonic()
        assert client.get("/slow?seconds=0.2").status_code == 200
        assert 0.2 <= time.monotonic() - began < 2

    def test_a_read_time_out_fires(self, client: Client) -> None:
        with pytest.raises(requests.exceptions.ReadTimeout):
            client.session.get(client.sandbox.url + "/slow?seconds=5", timeout=0.1)

    @pytest.mark.parametrize(("part", "first"), [("body", b"HTTP/1.1 200 OK\r\n"), ("head", b"HT")])
    def test_trickle_outlasts_a_time_out_for_each_read(self, sandbox: Sandbox, part: str, first: bytes) -> None:
        """Bytes come one by one, so that only a deadline for the whole call can end it."""
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=1) as connection:
            target = f"/slow?first=0&trickle=0.02&bytes=20&part={part}".encode()
            connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            chunks = [connection.recv(1_000) for _ in range(8)]
        assert b"".join(chunks).startswith(first)
        assert all(len(chunk) < 5 for chunk in chunks[1:])

    def test_hang_answers_nothing(self, sandbox: Sandbox) -> None:
        began = time.monotonic()
        assert get_raw(sandbox, "/hang?seconds=0.2") == b""
        assert time.monotonic() - began >= 0.2

    @pytest.mark.parametrize("path", ["/slow?seconds=61", "/slow?seconds=nan", "/slow?seconds=-1", "/hang?seconds=inf"])
    def test_bounds(self, client: Client, path: str) -> None:
        assert client.get(path).status_code == 400


class TestFlaky:
    def test_fails_so_many_times_then_works(self, client: Client, key: str) -> None:
        answers = [client.post(f"/flaky?fails=2&key={key}&status=502&retry_after=3") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [502, 502, 200, 200]
        assert [answer.headers.get("Retry-After") for answer in answers] == ["3", "3", None, None]
        assert answers[2].json() == {"ok": True, "attempt": 3}

    def test_fails_by_closing(self, client: Client, key: str) -> None:
        with pytest.raises(requests.exceptions.ConnectionError):
            client.get(f"/flaky?fails=1&how=close&key={key}")
        assert client.get(f"/flaky?fails=1&how=close&key={key}").status_code == 200

    def test_without_a_key_it_fails_anew_after_each_success(self, client: Client) -> None:
        answers = [client.get("/flaky?fails=2").status_code for _ in range(6)]
        assert answers == [503, 503, 200] * 2


class TestRateLimited:
    def test_always_without_a_key(self, client: Client) -> None:
        answer = client.get("/rate-limited?retry_after=9")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "9")

    def test_retry_after_as_a_date(self, client: Client) -> None:
        header = client.get("/rate-limited?retry_after=60&format=date").headers["Retry-After"]
        assert header.endswith(" GMT")
        assert 59 <= parsedate_to_datetime(header).timestamp() - time.time() <= 62

    def test_a_window_of_its_own_for_each_key(self, client: Client, key: str) -> None:
        path = f"/rate-limited?limit=3&window=0.4&key={key}"
        answers = [client.get(path) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
        assert answers[4].headers["Retry-After"] == "1"
        assert client.get(path + "-other").status_code == 200
        deadline = time.monotonic() + 3
        while (answer := client.get(path)).status_code == 429:
            assert time.monotonic() < deadline
        assert answer.status_code == 200


class TestBodies:
    def test_endless_goes_on_until_the_client_leaves(self, client: Client) -> None:
        received = 0
        with client.session.get(client.sandbox.url + "/endless", stream=True, timeout=5) as answer:
            assert answer.headers["Transfer-Encoding"] == "chunked"
            for chunk in answer.iter_content(65_536):
                received += len(chunk)
                if received > 5_000_000:
                    break
        assert received > 5_000_000
        assert client.get("/me").status_code == 200

    @pytest.mark.parametrize("size", [0, 1, 16_380, 3_000_000])
    def test_big_is_as_big_as_it_says(self, client: Client, size: int) -> None:
        answer = client.get(f"/big?bytes={size}")
        assert int(answer.headers["Content-Length"]) == len(answer.content) == size

    @pytest.mark.parametrize("size", [1, 1024**2, 5 * 1024**2 + 7])
    def test_gzip_bomb_is_valid_and_small(self, sandbox: Sandbox, size: int) -> None:
        answer = urllib3.PoolManager().request("GET", f"{sandbox.url}/gzip-bomb?bytes={size}", decode_content=False)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(answer.data) < 100 + size / 500
        assert gzip.decompress(answer.data) == bytes(size)

    def test_broken_json(self, client: Client) -> None:
        answer = client.get("/broken-json")
        assert answer.headers["Content-Type"] == "application/json"
        with pytest.raises(requests.exceptions.JSONDecodeError):
            answer.json()

    def test_bad_charset(self, client: Client) -> None:
        with pytest.raises(UnicodeDecodeError):
            client.get("/bad-charset").content.decode()
        assert client.get("/bad-charset?charset=x-klingon").headers["Content-Type"].endswith("charset=x-klingon")


class TestBrokenHttp:
    @pytest.mark.parametrize(
        ("when", "end"), [("before", b""), ("head", b"Content-Ty"), ("body", b'{"cut":'), ("chunk", b'3e8\r\n"')]
    )
    def test_closes_where_asked(self, sandbox: Sandbox, when: str, end: bytes) -> None:
        answer = get_raw(sandbox, f"/close?when={when}")
        assert answer.endswith(end)
        assert bool(answer) == (when != "before")

    def test_reset(self, sandbox: Sandbox) -> None:
        with pytest.raises(ConnectionResetError):
            get_raw(sandbox, "/close?how=reset")

    @pytest.mark.parametrize(("claimed", "sent"), [("5", 10), ("1000", 10)])
    def test_lies_about_its_length(self, sandbox: Sandbox, claimed: str, sent: int) -> None:
        head, _, body = get_raw(sandbox, f"/lie?content_length={claimed}&bytes={sent}").partition(b"\r\n\r\n")
        assert f"Content-Length: {claimed}".encode() in head
        assert len(body) == sent

    def test_header_crowds(self, sandbox: Sandbox) -> None:
        head = get_raw(sandbox, "/headers?count=500&bytes=50").partition(b"\r\n\r\n")[0]
        assert head.count(b"X-Crowd-") == 500
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=5)
        connection.request("GET", "/headers?bytes=100000")
        with pytest.raises(http.client.LineTooLong):
            connection.getresponse()
        connection.close()

    def test_not_http(self, sandbox: Sandbox) -> None:
        assert not get_raw(sandbox, "/not-http").startswith(b"HTTP/")


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_anywhere(self, client: Client, status: int) -> None:
        target = "http://169.254.169.254/latest/meta-data/"
        answer = client.post("/redirect", params={"to": target, "status": status})
        assert (answer.status_code, answer.headers["Location"]) == (status, target)

    @pytest.mark.parametrize(
        "options", [{}, {"to": ""}, {"to": "/a\r\nSet-Cookie: x=1"}, {"to": "/é"}, {"to": "/", "status": 200}]
    )
    def test_no_header_is_injected(self, client: Client, options: dict[str, Any]) -> None:
        answer = client.get("/redirect", params=options)
        assert answer.status_code == 400
        assert "Set-Cookie" not in answer.headers

    def test_in_circles(self, client: Client) -> None:
        location = "/auth/none/redirect-loop?key=circle"
        for hop, _ in enumerate(pairwise(range(5)), 1):
            location = client.get(location).headers["Location"]
            assert location == f"/auth/none/redirect-loop?key=circle&hop={hop}"


def test_whoever_leaves_a_wait_gives_its_place_back(client: Client) -> None:
    """More of them than the server has places for."""
    for path in ["/hang", "/slow?seconds=60"] * (CLIENTS // 2 + 30):
        with socket.create_connection(("127.0.0.1", client.sandbox.port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert client.get("/me").status_code == 200


def test_no_misbehaviour_is_left_behind(client: Client) -> None:
    """All of them at once, abandoned halfway, and the next client is served."""
    paths = ["/hang", "/slow?seconds=30", "/endless", "/gzip-bomb", "/big?bytes=10000000000", "/slow?trickle=9&first=0"]
    for path in paths * 5:
        with socket.create_connection(("127.0.0.1", client.sandbox.port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    began = time.monotonic()
    assert client.get("/me").status_code == 200
    assert time.monotonic() - began < 2
