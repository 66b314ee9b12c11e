"""Answers that are read as they come, and bodies from files and iterators, through everything a client does."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any
from uuid import uuid4

import pytest

from connections.client import Event
from external_apis.errors import BadAnswer, InvalidInput, UpstreamClientError, UpstreamServerError
from tests.connections.client.conftest import MakeClient
from tests.sandbox import Sandbox
from tests.sockets import answering, serve


def test_a_streamed_answer_has_the_face_of_requests(make_client: MakeClient) -> None:
    with make_client("bearer").get("/items/page?total=50&limit=50", stream=True) as response:
        assert response.status_code == 200
        pieces = list(response.iter_content(100))
    assert len(pieces) > 5
    assert len(json.loads(b"".join(pieces))["data"]) == 50


def test_a_streamed_answer_may_be_read_by_line_and_is_unpacked(make_client: MakeClient) -> None:
    packed = gzip.compress(b"one\ntwo\nthree\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with serve(answering(head + packed)) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}")
        assert list(client.get("/", stream=True).iter_lines()) == [b"one", b"two", b"three"]


def test_a_streamed_answer_may_be_read_as_it_comes(make_client: MakeClient) -> None:
    body = b"x" * 200_000
    with serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))) as port:
        pieces = list(make_client(base_url=f"http://127.0.0.1:{port}").get("/", stream=True).iter_content(None))
    assert b"".join(pieces) == body
    assert len(pieces) > 2


def test_rules_look_into_long_bodies_but_not_into_streams(make_client: MakeClient) -> None:
    body = json.dumps({"ok": False, "pad": "x" * 2_000_000}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    rule = {"action": "fail", "body_path": "ok", "body_equals": False}
    with serve(answering(answer)) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}", response_rules=[rule])
        with pytest.raises(UpstreamClientError):
            client.get("/")
        assert client.get("/", stream=True).raw.read() == body


def test_an_error_status_is_an_error_with_its_body(make_client: MakeClient) -> None:
    with pytest.raises(UpstreamClientError) as caught:
        make_client().get("/status/404", stream=True)
    assert b"status_404" in caught.value.body


def test_redirects_are_followed_to_the_stream(make_client: MakeClient) -> None:
    response = make_client("bearer").get("/redirect?to=/auth/bearer/me", stream=True)
    assert json.loads(b"".join(response.iter_content(10)))["scheme"] == "bearer"


def test_the_limit_may_be_the_calls(make_client: MakeClient) -> None:
    client = make_client()
    with pytest.raises(BadAnswer, match="longer than 100 bytes"):
        client.get("/items/page?total=50&limit=50", max_body_bytes=100)
    with pytest.raises(BadAnswer, match="longer than 100 bytes"):
        client.get("/items/page?total=50&limit=50", stream=True, max_body_bytes=100)


@pytest.mark.parametrize("data", [io.BytesIO(b"hello"), iter([b"hel", b"lo"])])
def test_files_and_iterators_are_sent(make_client: MakeClient, events: list[Event], data: Any) -> None:
    echo = make_client("bearer").post("/echo", data, headers={"Content-Type": "text/plain"}).json()
    assert "hello" in json.dumps(echo)
    assert "text/plain" in json.dumps(echo)
    assert events[0].request is not None


def test_a_file_is_sent_again_from_its_beginning(make_client: MakeClient, sandbox: Sandbox) -> None:
    key = uuid4().hex
    make_client().post(f"/flaky?key={key}&fails=2", io.BytesIO(b"12345678"))
    assert [request["body_bytes"] for request in sandbox.requests(key)] == [8, 8, 8]
    response = make_client().post("/redirect?status=307&to=/echo", io.BytesIO(b"12345678"))
    assert "12345678" in response.text


def test_an_iterator_is_sent_once(make_client: MakeClient, sandbox: Sandbox) -> None:
    key = uuid4().hex
    with pytest.raises(UpstreamServerError):
        make_client().put(f"/flaky?key={key}&fails=2", iter([b"1234"]))
    assert sandbox.count(key) == 1
    with pytest.raises(BadAnswer, match="read only once"):
        make_client().post("/redirect?status=307&to=/echo", iter([b"1234"]))


def test_what_signs_the_body_takes_no_stream(make_client: MakeClient, events: list[Event]) -> None:
    with pytest.raises(InvalidInput, match="signs the whole body"):
        make_client("hmac").post("/echo", io.BytesIO(b"hello"))
    assert events == []
    assert make_client("bearer").post("/echo", io.BytesIO(b"hello"))
