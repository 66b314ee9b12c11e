"""Idempotency keys: one call upstream, one answer for all who ask, and no silent second call."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from connections import idempotent_calls
from connections.gateway import renewals
from connections.models import IdempotentCall
from external_apis.crypto import Sealed
from external_apis.errors import CallInProgress, VaultError
from tests.connections.gateway.conftest import Connect, proxied
from tests.connections.gateway.test_proxy import error_code
from tests.factories import make_key
from tests.rest import RestClient
from tests.sandbox import Sandbox
from tests.sockets import answering, read_head, serve

pytestmark = pytest.mark.django_db


@pytest.fixture
def name() -> str:
    """A key that is used nowhere else, for the gateway and for the sandbox's ledger."""
    return f"once-{uuid4().hex}"


def post(client: RestClient, path: str, key: str, body: bytes = b'{"a": 1}', method: str = "POST") -> Any:
    return client.generic(method, path, body, content_type="application/json", headers={"Idempotency-Key": key})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_second_one_gets_the_first_ones_answer(
    connect: Connect, caller: RestClient, sandbox: Sandbox, name: str, method: str
) -> None:
    path = proxied(connect(), f"/echo?key={name}")
    first, second = post(caller, path, name, method=method), post(caller, path, name, method=method)
    assert sandbox.count(name) == 1
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.content == first.content
    assert second.headers["Content-Type"] == first.headers["Content-Type"]
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"


def test_the_stored_answer_is_sealed(connect: Connect, caller: RestClient, name: str) -> None:
    post(caller, proxied(connect(), "/echo"), name, b'{"a": "a-canary-in-an-answer"}')
    row = IdempotentCall.objects.get()
    assert isinstance(row.__dict__["answer"], Sealed)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT row_to_json(t)::text FROM {row._meta.db_table} t")
        text = cursor.fetchone()[0]
    assert "canary" not in text
    assert name not in text
    assert b"canary".hex() not in text


def test_a_safe_method_needs_no_key(connect: Connect, caller: RestClient, sandbox: Sandbox, name: str) -> None:
    path = proxied(connect(), f"/echo?key={name}")
    for _ in range(2):
        assert caller.get(path, headers={"Idempotency-Key": name}).status_code == 200
    assert sandbox.count(name) == 2
    assert not IdempotentCall.objects.exists()


@pytest.mark.parametrize(
    ("path", "body"), [("/echo", b'{"a": 2}'), ("/echo/b", b'{"a": 1}'), ("/echo?a=1", b'{"a": 1}')]
)
def test_another_request_under_the_same_key_is_refused(
    connect: Connect, caller: RestClient, name: str, path: str, body: bytes
) -> None:
    row = connect()
    post(caller, proxied(row, "/echo"), name)
    assert error_code(post(caller, proxied(row, path), name, body)) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert error_code(post(caller, proxied(row, "/echo"), name, method="PUT")) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_the_same_body_of_another_type_is_another_request(connect: Connect, caller: RestClient, name: str) -> None:
    """A form and a text of the same bytes do not ask for the same."""
    path = proxied(connect(), "/echo")

    def send(content_type: str) -> Any:
        return caller.generic("POST", path, b"a=1", content_type=content_type, headers={"Idempotency-Key": name})

    assert send("application/x-www-form-urlencoded").status_code == 200
    assert error_code(send("text/plain")) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert send("application/x-www-form-urlencoded").headers["Idempotent-Replayed"] == "true"


def test_keys_belong_to_a_caller_and_a_connection(
    connect: Connect, caller: RestClient, sandbox: Sandbox, name: str
) -> None:
    row, other_row = connect(), connect()
    other = RestClient(headers={"Authorization": f"Bearer {make_key(scopes=['proxy']).token}"})
    for client, one in ((caller, row), (other, row), (caller, other_row)):
        answer = post(client, proxied(one, f"/echo?key={name}"), name, str(one.pk).encode())
        assert "Idempotent-Replayed" not in answer.headers
    assert sandbox.count(name) == 3


@pytest.mark.parametrize("key", ["x" * 256, "a b\tc", "\xe4", "", " "])
def test_a_malformed_key_is_refused(connect: Connect, caller: RestClient, key: str) -> None:
    assert error_code(post(caller, proxied(connect(), "/echo"), key)) == (400, "VALIDATION_ERROR")


@pytest.mark.django_db(transaction=True)
def test_while_one_is_under_way_others_are_told(
    connect: Connect, caller: RestClient, sandbox: Sandbox, name: str
) -> None:
    path = proxied(connect(), f"/slow?seconds=0.6&key={name}")
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(_post_in_thread(caller, path, name))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sandbox.count(name) == 1
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]
    refused = [error_code(answer)[1] for answer in answers if answer.status_code == 409]
    assert set(refused) == {"IDEMPOTENCY_CALL_IN_PROGRESS"}
    assert post(caller, path, name).status_code == 200
    assert sandbox.count(name) == 1


def _post_in_thread(client: RestClient, path: str, key: str) -> Any:
    try:
        return post(client, path, key)
    finally:
        connection.close()


def test_an_error_is_an_answer_too(connect: Connect, caller: RestClient, sandbox: Sandbox, name: str) -> None:
    for status in (400, 404, 500):
        key = f"{name}-{status}"
        path = proxied(connect(), f"/status/{status}?key={key}")
        assert [post(caller, path, key).status_code for _ in range(2)] == [status, status]
        assert sandbox.count(key) == 1


def test_a_call_that_did_nothing_may_be_made_again(
    connect: Connect, caller: RestClient, sandbox: Sandbox, name: str
) -> None:
    row = connect(retry_config={"max_retries": 0})
    path = proxied(row, f"/flaky?key={name}&fails=1&status=503")
    assert [post(caller, path, name).status_code for _ in range(3)] == [503, 200, 200]
    assert sandbox.count(name) == 2
    nowhere = connect("none", base_url="http://127.0.0.1:1", retry_config={"max_retries": 0})
    for _ in range(2):
        assert error_code(post(caller, proxied(nowhere, "/x"), name)) == (502, "CONNECT_FAILED")


def test_a_lost_answer_leaves_the_call_in_doubt(connect: Connect, caller: RestClient, name: str) -> None:
    seen: list[bytes] = []

    def play(client: Any) -> None:
        seen.append(read_head(client))

    with serve(play) as port:
        row = connect("none", base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 3, "backoff_ms": 1})
        assert error_code(post(caller, proxied(row, "/x"), name)) == (502, "BAD_ANSWER")
        assert error_code(post(caller, proxied(row, "/x"), name)) == (409, "IDEMPOTENCY_CALL_IN_DOUBT")
        assert len(seen) == 1


def test_a_redirect_abroad_leaves_the_call_in_doubt(connect: Connect, caller: RestClient, name: str) -> None:
    """It is refused like a call that was never sent, but the provider has had this one."""
    heads: list[bytes] = []

    def play(client: socket.socket) -> None:
        heads.append(read_head(client))
        client.sendall(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.2:1/x\r\nContent-Length: 0\r\n\r\n")
        client.recv(100)  # what may be left of the body, or closing would reset the connection

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        assert error_code(post(caller, path, name)) == (502, "EGRESS_REFUSED")
        assert error_code(post(caller, path, name)) == (409, "IDEMPOTENCY_CALL_IN_DOUBT")
    assert len(heads) == 1


def test_a_call_that_was_refused_before_it_was_sent_may_be_made_again(
    connect: Connect, caller: RestClient, settings: Any, name: str
) -> None:
    path, settings.EGRESS_ALLOW = proxied(connect(), "/echo"), []
    for _ in range(2):
        assert error_code(post(caller, path, name)) == (502, "EGRESS_REFUSED")
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    assert post(caller, path, name).status_code == 200


def test_what_the_provider_takes_for_the_same_call_is_made_again(
    connect: Connect, caller: RestClient, sandbox: Sandbox, name: str
) -> None:
    """After a crash the key's row is left as it was, until its lease has ended."""
    knowing = connect(retry_config={"idempotency_header": "X-Own-Key"})
    calls = ((connect(), "PUT", 200), (knowing, "POST", 200), (connect(), "POST", 409))
    for row, method, status in calls:
        key = f"{name}-{row.pk}-{method}"
        path = proxied(row, f"/echo?key={key}")
        post(caller, path, key, method=method)
        IdempotentCall.objects.update(finished_at=None, leased_until=timezone.now() + timedelta(seconds=60))
        assert error_code(post(caller, path, key, method=method)) == (409, "IDEMPOTENCY_CALL_IN_PROGRESS")
        IdempotentCall.objects.update(leased_until=timezone.now())
        assert post(caller, path, key, method=method).status_code == status
        assert sandbox.count(key) == (2 if status == 200 else 1)
        IdempotentCall.objects.all().delete()
        if row is knowing:
            sent = [{k.lower(): v for k, v in one["headers"].items()}["x-own-key"] for one in sandbox.requests(key)]
            assert len(set(sent)) == 1


def test_whoever_lost_the_claim_stores_nothing(connect: Connect) -> None:
    row = connect()
    options: Any = {"lease_seconds": -1, "is_repeatable": True}
    slow = idempotent_calls.claim(row, "key", "k", "digest", **options)
    quick = idempotent_calls.claim(row, "key", "k", "digest", **options)
    assert isinstance(slow, idempotent_calls.Claim)
    assert isinstance(quick, idempotent_calls.Claim)
    quick.store(idempotent_calls.KeptAnswer(200, {}, b"quick"))
    slow.store(idempotent_calls.KeptAnswer(200, {}, b"slow"))
    slow.release()
    kept = idempotent_calls.claim(row, "key", "k", "digest", **options)
    assert isinstance(kept, idempotent_calls.KeptAnswer)
    assert kept.body == b"quick"


def test_of_two_who_take_a_call_over_one_makes_it(connect: Connect) -> None:
    options: Any = {"lease_seconds": -1, "is_repeatable": True}
    row = connect()
    idempotent_calls.claim(row, "key", "k", "digest", **options)
    seen = IdempotentCall.objects.get()  # by the second, while the first one takes it over
    assert isinstance(idempotent_calls.claim(row, "key", "k", "digest", **options), idempotent_calls.Claim)
    held = IdempotentCall.objects.get().fence
    mine = IdempotentCall(request_digest="digest", fence="fence_of_the_second", leased_until=timezone.now())
    with pytest.raises(CallInProgress):
        idempotent_calls._judge(seen, mine, is_repeatable=True)
    assert IdempotentCall.objects.get().fence == held


def test_a_key_is_forgotten_after_a_day(connect: Connect, caller: RestClient, sandbox: Sandbox, name: str) -> None:
    path = proxied(connect(), f"/echo?key={name}")
    post(caller, path, name)
    assert idempotent_calls.purge() == 0
    IdempotentCall.objects.update(expires_at=timezone.now())
    assert post(caller, path, name, b"another").status_code == 200
    assert sandbox.count(name) == 2
    assert IdempotentCall.objects.count() == 1
    IdempotentCall.objects.update(expires_at=timezone.now())
    assert idempotent_calls.purge() == 1


def test_a_long_answer_is_passed_on_and_not_kept(
    connect: Connect, caller: RestClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"x" * (idempotent_calls.MAX_KEPT_BYTES + 100_000)

    def play(client: Any) -> None:
        if read_head(client).endswith(b"\r\n\r\n"):
            client.recv(100)  # the body, or closing would reset the connection
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        answer = post(caller, path, name)
        assert b"".join(answer.streaming_content) == body
        assert error_code(post(caller, path, name)) == (409, "IDEMPOTENCY_ANSWER_NOT_KEPT")


def test_events_are_kept_when_all_have_come(connect: Connect, caller: RestClient, name: str) -> None:
    row = connect("bearer", "/openai/v1")
    body = b'{"model": "sandbox-1", "stream": true, "messages": [{"role": "user", "content": "one two"}]}'
    path = proxied(row, "/chat/completions")
    first = post(caller, path, name, body)
    began = time.monotonic()
    pieces = list(first.streaming_content)
    assert len(pieces) >= 2
    assert time.monotonic() - began > 0.15
    second = post(caller, path, name, body)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.content == b"".join(pieces)


@pytest.mark.django_db(transaction=True)
def test_whoever_leaves_early_leaves_the_call_in_doubt(connect: Connect, caller: RestClient, name: str) -> None:
    row = connect("bearer", "/openai/v1")
    body = b'{"model": "sandbox-1", "stream": true, "messages": [{"role": "user", "content": "one two three"}]}'
    answer = post(caller, proxied(row, "/chat/completions"), name, body)
    next(iter(answer.streaming_content))
    answer.close()
    again = post(caller, proxied(row, "/chat/completions"), name, body)
    assert error_code(again) == (409, "IDEMPOTENCY_CALL_IN_DOUBT")


@pytest.mark.parametrize("error", [DatabaseError(), InterfaceError(), VaultError("gone")])
def test_an_answer_that_cannot_be_stored_goes_out(
    connect: Connect, caller: RestClient, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    name = f"once-{uuid4().hex}"

    def fail(*_: object) -> None:
        raise error

    path = proxied(connect(), f"/echo?key={name}")
    with monkeypatch.context() as broken:
        broken.setattr(idempotent_calls.Claim, "store", fail)
        assert post(caller, path, name).status_code == 200
    assert error_code(post(caller, path, name)) == (409, "IDEMPOTENCY_CALL_IN_PROGRESS")
    assert sandbox.count(name) == 1


def test_a_long_body_needs_no_key(connect: Connect, caller: RestClient, settings: Any, name: str) -> None:
    settings.MAX_BODY_BYTES = 1000
    path = proxied(connect(), "/echo")
    assert error_code(post(caller, path, name, b"x" * 1001)) == (413, "PAYLOAD_TOO_LARGE")
    assert caller.generic("POST", path, b"x" * 1001, content_type="text/plain").status_code == 200


def test_another_key_for_the_provider_makes_another_request(connect: Connect, caller: RestClient, name: str) -> None:
    """The provider would take it for a second payment."""
    row = connect(retry_config={"max_retries": 0, "idempotency_header": "PayPal-Request-Id"})

    def send(own: str) -> Any:
        headers = {"Idempotency-Key": name, "PayPal-Request-Id": own}
        return caller.generic("POST", proxied(row, "/echo"), b"{}", content_type="application/json", headers=headers)

    assert send("pp-1").status_code == 200
    assert error_code(send("pp-2")) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert send("pp-1").headers["Idempotent-Replayed"] == "true"


def test_a_status_that_is_none_leaves_the_call_in_doubt(connect: Connect, caller: RestClient, name: str) -> None:
    with serve(answering(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n")) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        assert error_code(post(caller, path, name)) == (502, "BAD_ANSWER")
        assert error_code(post(caller, path, name)) == (409, "IDEMPOTENCY_CALL_IN_DOUBT")


def test_an_empty_answer_keeps_the_short_lease(connect: Connect, caller: RestClient, name: str) -> None:
    with serve(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        assert post(caller, path, name).status_code == 204
    assert IdempotentCall.objects.get().leased_until < timezone.now() + timedelta(seconds=200)


@pytest.mark.django_db(transaction=True)
def test_a_lease_goes_on_while_nobody_reads(
    connect: Connect, caller: RestClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that waits for its client to take a piece asks for none."""
    monkeypatch.setattr(renewals, "_EVERY_SECONDS", 0.05)
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        may_end.wait(5)

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        answer = post(caller, path, name, method="PUT")
        IdempotentCall.objects.update(leased_until=timezone.now())
        deadline = time.monotonic() + 5
        while IdempotentCall.objects.get().leased_until < timezone.now() + timedelta(seconds=60):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert error_code(post(caller, path, name, method="PUT")) == (409, "IDEMPOTENCY_CALL_IN_PROGRESS")
        answer.close()
        may_end.set()


@pytest.mark.django_db(transaction=True)
def test_a_slow_answer_is_passed_on_while_it_is_collected(connect: Connect, caller: RestClient, name: str) -> None:
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        may_end.wait(5)
        client.sendall(b"3\r\ndef\r\n0\r\n\r\n")

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        answer = post(caller, path, name)
        pieces = iter(answer.streaming_content)
        assert next(pieces) == b"abc"
        # A killed process is noticed soon: the lease goes on in short steps.
        assert IdempotentCall.objects.get().leased_until < timezone.now() + timedelta(seconds=200)
        assert error_code(post(caller, path, name)) == (409, "IDEMPOTENCY_CALL_IN_PROGRESS")
        may_end.set()
        assert b"".join(pieces) == b"def"
        answer.close()
        assert post(caller, path, name).content == b"abcdef"
