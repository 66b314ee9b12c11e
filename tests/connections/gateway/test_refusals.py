"""What the gateway says of calls that no provider answered."""

from __future__ import annotations

import pytest

from tests.connections.gateway.conftest import Connect, proxied
from tests.rest import RestClient
from tests.sockets import answering, serve

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
def test_an_answer_that_breaks_off_is_told_in_words_with_the_requests_id(
    connect: Connect, caller: RestClient, answer: bytes
) -> None:
    with serve(answering(answer)) as port:
        row = connect("none", base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 0})
        refused = caller.get(proxied(row, "/x"))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (502, "BAD_ANSWER")
    assert error["details"]["requestId"] == refused.headers["X-Request-Id"]
    assert error["message"].endswith(("it closed the connection without an answer.", "its answer is not complete."))


@pytest.mark.parametrize("reference", ["sandbox/default", "stripe", "conn_0"])
def test_what_is_no_id_is_not_found_with_a_hint(caller: RestClient, reference: str) -> None:
    refused = caller.get(f"/api/external/proxy/{reference}/me")
    assert refused.status_code == 404
    hint = "the gateway's URL takes a connection's id, conn_"
    assert (hint in refused.json()["error"]["message"]) == (reference != "conn_0")
