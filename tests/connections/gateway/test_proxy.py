"""The gateway's view: who may call, what goes out, what comes back."""

from __future__ import annotations

import base64
import gzip
import json
import socket
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import warm
from connections.gateway.bulkhead import bulkhead
from connections.models import ExternalApiConnection
from connections.sandbox import credentials
from external_apis import tokens
from external_apis.authentication import authenticate_token
from tests.connections.gateway.conftest import Connect, proxied
from tests.factories import MANAGER, make_key, make_tenant, make_user
from tests.rest import RestClient, signed_in
from tests.sandbox import Sandbox
from tests.sockets import answering, read_head, serve

pytestmark = pytest.mark.django_db


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def error_code(response: Any) -> tuple[int, str]:
    body = response.json()
    assert set(body) == {"success", "error", "meta"}
    assert body["success"] is False
    return response.status_code, body["error"]["code"]


# --- who ---


def test_a_key_is_taken_wherever_an_sdk_can_put_it(connect: Connect, token: str) -> None:
    path = proxied(connect(), "/me")
    jwt = tokens.issue_jwt(authenticate_token(token, None)).token
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"bearer {jwt}"},
        {"Authorization": basic("AC123", token)},
        {"Authorization": basic("", token)},
        {"X-Api-Key": token},
    ):
        answer = RestClient().get(path, headers=headers)
        assert (answer.status_code, answer.json()["scheme"]) == (200, "bearer")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "MISSING_AUTH_HEADER"),
        ({"Authorization": "Digest abc"}, "INVALID_AUTH_SCHEME"),
        ({"Authorization": "Basic %%%"}, "INVALID_AUTH_SCHEME"),
        ({"Authorization": "Basic YWJj"}, "INVALID_API_KEY"),
        ({"Authorization": "Bearer sk_live_nonsense"}, "INVALID_API_KEY"),
        ({"X-Api-Key": "sk_live_nonsense"}, "INVALID_API_KEY"),
        ({"Authorization": "Bearer \xe4\xff"}, "INVALID_API_KEY"),
    ],
)
def test_others_are_refused_in_the_envelope(connect: Connect, headers: dict[str, str], code: str) -> None:
    row = connect()
    assert error_code(RestClient().get(proxied(row, "/me"), headers=headers)) == (401, code)


def test_a_session_is_no_credential(connect: Connect) -> None:
    client = signed_in(make_user(permissions=MANAGER))
    assert error_code(client.get(proxied(connect(), "/me"))) == (401, "MISSING_AUTH_HEADER")


def test_the_scope_is_needed(connect: Connect) -> None:
    key = make_key(scopes=["connections:read", "connections:write", "credentials:read"])
    answer = RestClient().get(proxied(connect(), "/me"), headers={"Authorization": f"Bearer {key.token}"})
    assert error_code(answer) == (403, "FORBIDDEN")


@pytest.mark.django_db(transaction=True)
def test_a_revoked_key_is_dead_within_a_second(connect: Connect, sandbox: Sandbox) -> None:
    from time import monotonic, sleep

    from external_apis.models import ApiKey

    path, key = proxied(connect(), "/me"), make_key(scopes=["proxy"])
    client = RestClient(headers={"Authorization": f"Bearer {key.token}"})
    assert client.get(path).status_code == 200
    # Nobody announces this.
    ApiKey.objects.update(revoked_at=timezone.now())
    revoked = monotonic()
    while client.get(path).status_code == 200:
        assert monotonic() - revoked < 1.0
        sleep(0.02)
    assert error_code(client.get(path)) == (401, "INVALID_API_KEY")


def test_tenants_and_modes_see_their_own(connect: Connect) -> None:
    mine, other = make_tenant(), make_tenant()
    rows = {
        "mine": connect(tenant=mine),
        "other": connect(tenant=other),
        "global": connect(),
        "sandbox": connect(is_sandbox=True),
    }
    seen = {
        "tenant": (make_key(tenant=mine), {"mine"}),
        "live": (make_key(), {"mine", "other", "global"}),
        "test": (make_key(mode="test"), {"sandbox"}),
    }
    for key, names in seen.values():
        client = RestClient(headers={"Authorization": f"Bearer {key.token}"})
        answers = {name: client.get(proxied(row, "/me")) for name, row in rows.items()}
        assert {name for name, answer in answers.items() if answer.status_code == 200} == names
        for name in set(rows) - names:
            rows[name].status = "revoked"
            rows[name].save()
            answers[name] = client.get(proxied(rows[name], "/me"))
            assert error_code(answers[name]) == (404, "NOT_FOUND")
            rows[name].status = "active"
            rows[name].save()
            assert answers[name].json()["error"]["message"] == f"Connection {rows[name].pk} not found"


@pytest.mark.parametrize("connection_id", ["conn_0", "bearer", "sandbox-bearer/default", "..", "%00", "conn_%ff"])
def test_an_unknown_connection_is_not_found(caller: RestClient, connection_id: str) -> None:
    answer = caller.get(f"/api/external/proxy/{connection_id}/me")
    assert answer.status_code in (400, 404)
    assert answer.json()["success"] is False


def test_an_unusable_connection_says_why(connect: Connect, caller: RestClient) -> None:
    row = connect()
    row.status = "revoked"
    row.save()
    assert error_code(caller.get(proxied(row, "/me"))) == (409, "CONNECTION_REVOKED")


def test_a_key_has_its_rate(connect: Connect) -> None:
    key = make_key(scopes=["proxy"], rate_limit=3)
    client = RestClient(headers={"Authorization": f"Bearer {key.token}"})
    path = proxied(connect(), "/me")
    answers = [client.get(path) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["X-Gateway-RateLimit-Remaining"] == "2"
    assert error_code(answers[3]) == (429, "RATE_LIMIT_EXCEEDED")
    assert answers[3].json()["error"]["details"]["limitOf"] == "key"
    assert answers[3].headers["X-Gateway-RateLimit-Remaining"] == "0"
    assert int(answers[3].headers["Retry-After"]) > 0


def test_bad_keys_in_a_row_from_one_address_end_in_429(connect: Connect, caller: RestClient, settings: Any) -> None:
    """Whoever guesses keys is known by nothing but the address; others behind it go on with theirs."""
    settings.ADMIN_API_RATE_LIMIT = 3
    path, places = proxied(connect(), "/me"), uuid4().bytes
    address = f"2001:db8:{places[0]:x}{places[1]:02x}:{places[2]:x}{places[3]:02x}::1"
    guesser = RestClient(REMOTE_ADDR=address)
    answers = [guesser.get(path, headers={"Authorization": f"Bearer sk_live_nonsense{n}"}) for n in range(5)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert error_code(answers[3]) == (429, "RATE_LIMIT_EXCEEDED")
    assert answers[3].json()["error"]["details"]["limitOf"] == "address"
    assert int(answers[3].headers["Retry-After"]) > 0
    assert caller.get(path, REMOTE_ADDR=address).status_code == 200


def test_a_connection_without_a_slot_is_told_from_a_key_without_one(connect: Connect, caller: RestClient) -> None:
    path = proxied(connect(rate_limit={"requests_per_hour": 1}, timeout_ms=1000), "/me")
    answers = [caller.get(path) for _ in range(2)]
    assert error_code(answers[1]) == (429, "RATE_LIMIT_EXCEEDED")
    assert answers[1].json()["error"]["details"]["limitOf"] == "connection"
    assert int(answers[1].headers["Retry-After"]) > 60
    assert "X-RateLimit-Remaining" not in answers[1].headers


def test_a_request_without_a_key_hears_of_the_three_places_for_one(connect: Connect) -> None:
    path = proxied(connect(), "/me")
    places = "Send the key as a Bearer token, as the password of Basic, or in X-Api-Key."
    for header, told in {
        None: f"No Authorization header provided. {places}",
        " ": f"The Authorization header is empty, or holds characters beyond ASCII. {places}",
        "Digest x": f"Invalid authorization scheme (use Bearer). {places}",
    }.items():
        answer = RestClient(headers={} if header is None else {"Authorization": header}).get(path)
        assert answer.status_code == 401
        assert answer.json()["error"]["message"] == told


@pytest.mark.django_db(transaction=True)
def test_slots_bought_ahead_never_exceed_the_rate(connect: Connect) -> None:
    key = make_key(scopes=["proxy"], rate_limit=300)
    client = RestClient(headers={"Authorization": f"Bearer {key.token}"})
    row = connect(proxy={"methods": ["POST"]})  # refused after the charge, so that it is quick
    statuses = [client.get(proxied(row, "/me")).status_code for _ in range(320)]
    assert 290 <= statuses.count(403) <= 302
    assert set(statuses[303:]) == {429}


# --- out ---


def test_the_request_arrives_as_it_was_less_what_is_ours(connect: Connect, caller: RestClient) -> None:
    answer = caller.generic(
        "PATCH",
        proxied(connect(), "/echo/a%20b/c;d=1?x=1&x=2&y=%2F+z"),
        b'{"a": 1}',
        content_type="application/vnd.own+json",
        headers={
            "X-Own": "kept",
            "Accept": "application/json",
            "User-Agent": "an-sdk/1",
            "Cookie": "session=1",
            "Forwarded": "for=1.2.3.4",
            "X-Forwarded-For": "1.2.3.4",
            "Stripe-Version": "2026-01-01",
        },
    )
    seen = answer.json()
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert (seen["method"], seen["path"], seen["json"]) == ("PATCH", "/auth/bearer/echo/a%20b/c;d=1", {"a": 1})
    assert seen["query"] == {"x": ["1", "2"], "y": "/ z"} or seen["query"]["y"] in ("/ z", ["/ z"])
    assert headers["x-own"] == "kept"
    assert headers["content-type"] == "application/vnd.own+json"
    assert headers["user-agent"] == "an-sdk/1"
    assert headers["accept-encoding"] == "identity"
    assert headers["x-request-id"] == answer.headers["X-Request-Id"]
    assert not {"cookie", "forwarded", "x-forwarded-for", "x-api-key"} & set(headers)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_passes(connect: Connect, caller: RestClient, method: str) -> None:
    assert caller.generic(method, proxied(connect(), "/echo")).json()["method"] == method


def test_a_head_has_no_body_and_its_length(connect: Connect, caller: RestClient) -> None:
    path = proxied(connect(), "/me")
    answer = caller.head(path)
    assert answer.content == b""
    assert answer.headers["Content-Length"] == str(len(caller.get(path).content))


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "BREW"])
def test_other_methods_do_not(connect: Connect, caller: RestClient, method: str) -> None:
    assert error_code(caller.generic(method, proxied(connect(), "/echo"))) == (400, "VALIDATION_ERROR")


def test_a_path_trick_is_refused_before_anything_is_sent(
    connect: Connect, caller: RestClient, sandbox: Sandbox
) -> None:
    before = sandbox.total()
    for path in ("/../me", "/a/%2e%2e/b", "//evil.example/", "/a%0d%0ab", "/https://evil.example"):
        assert error_code(caller.get(proxied(connect(), path))) == (400, "VALIDATION_ERROR")
    assert sandbox.total() == before


def test_a_callers_own_key_in_the_query_is_replaced(connect: Connect, caller: RestClient) -> None:
    answer = caller.get(proxied(connect("api-key-query"), f"/me?{credentials.API_KEY_QUERY}=mine&x=1"))
    assert answer.status_code == 200, answer.content


def test_signed_bodies_are_signed(connect: Connect, caller: RestClient, settings: Any) -> None:
    row = connect("hmac")
    assert caller.send("post", proxied(row, "/echo"), {"a": 1}).status_code == 200
    settings.MAX_BODY_BYTES = 100
    answer = caller.send("post", proxied(row, "/echo"), {"a": "x" * 200})
    assert error_code(answer) == (413, "PAYLOAD_TOO_LARGE")


def test_what_a_provider_does_not_allow_is_not_sent(connect: Connect, caller: RestClient, sandbox: Sandbox) -> None:
    row = connect(proxy={"methods": ["GET"], "paths": ["/echo/**"]})
    before = sandbox.total()
    assert caller.get(proxied(row, "/echo/a")).status_code == 200
    assert error_code(caller.post(proxied(row, "/echo/a"))) == (403, "FORBIDDEN")
    assert error_code(caller.get(proxied(row, "/me"))) == (403, "FORBIDDEN")
    assert sandbox.total() == before + 1


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Http-Method", "x-method-override"])
def test_a_method_that_is_not_allowed_comes_in_no_other_field(connect: Connect, caller: RestClient, name: str) -> None:
    """A provider that takes the field's word would do what its rules here forbid; without rules that is its matter."""
    for row, is_passed in ((connect(proxy={"methods": ["GET", "POST"]}), False), (connect(), True)):
        seen = caller.post(proxied(row, "/echo"), headers={name: "DELETE"}).json()
        assert seen["method"] == "POST"
        assert (name.lower() in {field.lower() for field in seen["headers"]}) is is_passed


def test_a_dry_run_shows_the_command_and_sends_nothing(connect: Connect, caller: RestClient, sandbox: Sandbox) -> None:
    before = sandbox.total()
    answer = caller.send("post", proxied(connect(), "/echo?a=1&dry_run=curl"), {"name": "Ada", "password": "hunter2"})
    command = answer.content.decode()
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert command.startswith(f"curl -X POST '{sandbox.url}/auth/bearer/echo?a=1'")
    assert "Ada" in command
    assert "$ACCESS_TOKEN" in command
    assert "hunter2" not in command
    assert credentials.BEARER_TOKEN not in command
    assert sandbox.total() == before


# --- back ---


def test_the_answer_comes_back_as_it_was(connect: Connect, caller: RestClient) -> None:
    packed = gzip.compress(b"[1, 2, 3]")
    head = (
        b"HTTP/1.1 203 Own Words\r\nContent-Type: application/own\r\nContent-Encoding: gzip\r\nX-Own: kept\r\n"
        b"Set-Cookie: a=1\r\nX-RateLimit-Remaining: 7\r\nX-Gateway-RateLimit-Limit: 8\r\n"
        b"Content-Length: %d\r\n\r\n" % len(packed)
    )
    with serve(answering(head + packed)) as port:
        row = connect("none", base_url=f"http://127.0.0.1:{port}")
        answer = caller.get(proxied(row, "/x"), headers={"Accept-Encoding": "gzip"})
    assert (answer.status_code, answer.content) == (203, packed)
    assert answer.headers["Content-Type"] == "application/own"
    assert answer.headers["Content-Encoding"] == "gzip"
    told = {name: value for name, value in answer.headers.items() if "RateLimit" in name}
    assert told.pop("X-Gateway-RateLimit-Reset").isdigit()
    assert told == {
        "X-RateLimit-Remaining": "7",
        "X-Gateway-RateLimit-Limit": "1000",
        "X-Gateway-RateLimit-Remaining": "999",
    }
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert answer.headers["X-Retries"] == "0"
    assert int(answer.headers["X-Upstream-Latency-Ms"]) >= 0


def test_no_content_type_is_made_up(connect: Connect, caller: RestClient) -> None:
    with serve(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as port:
        answer = caller.get(proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x"))
    assert answer.status_code == 204
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize(("status", "retries"), [(404, 0), (422, 0), (401, 0), (500, 4), (503, 4), (429, 4)])
def test_an_error_is_passed_on_after_the_clients_retries(
    connect: Connect, caller: RestClient, status: int, retries: int
) -> None:
    answer = caller.get(proxied(connect(), f"/status/{status}"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, f"status_{status}")
    assert answer.headers["X-Retries"] == str(retries)


def test_a_post_is_not_repeated_after_a_failure(connect: Connect, caller: RestClient, sandbox: Sandbox) -> None:
    answer = caller.post(proxied(connect(), "/flaky?key=gateway-post&fails=1&status=500"))
    assert (answer.status_code, answer.headers["X-Retries"]) == (500, "0")
    # A key that the provider is not known to understand is no licence either.
    path = proxied(connect(), "/flaky?key=gateway-post-2&fails=1&status=500")
    assert caller.post(path, headers={"Idempotency-Key": "k"}).headers["X-Retries"] == "0"
    path = proxied(connect(retry_config={"idempotency_header": "Idempotency-Key", "backoff_ms": 1}), "/flaky")
    answer = caller.post(f"{path}?key=gateway-post-3&fails=1&status=500", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.headers["X-Retries"]) == (200, "1")


def test_rules_judge_what_a_body_says(connect: Connect, caller: RestClient) -> None:
    rule = {"action": "retry", "body_path": "scheme", "body_equals": "bearer"}
    answer = caller.get(proxied(connect(response_rules=[rule]), "/me"))
    assert (answer.status_code, answer.json()["scheme"], answer.headers["X-Retries"]) == (200, "bearer", "4")


def test_a_redirect_is_followed_and_takes_no_credential_away(connect: Connect, caller: RestClient) -> None:
    seen: list[bytes] = []

    def play(client: Any) -> None:
        from tests.sockets import OK, read_head

        seen.append(read_head(client))
        client.sendall(OK)

    with serve(play) as port:
        answer = caller.get(proxied(connect(), f"/redirect?to=http://127.0.0.1:{port}/file"))
    assert answer.content == b"ok"
    assert b"uthorization" not in seen[0]


def test_the_guard_holds(connect: Connect, caller: RestClient, settings: Any) -> None:
    row = connect()
    settings.EGRESS_ALLOW = []
    assert error_code(caller.get(proxied(row, "/me"))) == (502, "EGRESS_REFUSED")


def test_a_provider_that_breaks_off_is_told_from_one_that_answers(connect: Connect, caller: RestClient) -> None:
    with serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as port:
        row = connect("none", base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 0})
        assert error_code(caller.get(proxied(row, "/x"))) == (502, "BAD_ANSWER")
    with serve(answering(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n")) as port:
        row = connect("none", base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 0})
        assert error_code(caller.get(proxied(row, "/x"))) == (502, "BAD_ANSWER")


def test_a_body_that_is_cut_short_is_told_with_the_requests_id(connect: Connect, caller: RestClient) -> None:
    """The client had done its part when it broke off, and with it told whose call it was."""
    with serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as port:
        row = connect("none", base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 0})
        answer = caller.get(proxied(row, "/x"), headers={"X-Request-Id": "cut-short-2"})
    assert error_code(answer) == (502, "BAD_ANSWER")
    assert answer.headers["X-Request-Id"] == "cut-short-2"
    assert answer.json()["error"]["details"]["requestId"] == "cut-short-2"


def test_a_long_answer_is_streamed(connect: Connect, caller: RestClient) -> None:
    body = bytes(range(256)) * 1000
    with serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))) as port:
        answer: Any = caller.get(proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x"))
        assert answer.streaming
        assert b"".join(answer.streaming_content) == body


# --- and otherwise ---


@pytest.mark.django_db(transaction=True)
def test_a_known_caller_of_a_known_connection_costs_no_query(connect: Connect, caller: RestClient) -> None:
    path = proxied(connect(), "/me")
    caller.get(path)
    with CaptureQueriesContext(connection) as queries:
        assert caller.get(path).status_code == 200
    assert len(queries) == 0, [query["sql"] for query in queries]


def test_too_many_calls_at_once_are_refused(connect: Connect, caller: RestClient) -> None:
    row = connect()
    berths = [bulkhead().enter(row.pk) for _ in range(bulkhead().each)]
    answer = caller.get(proxied(row, "/me"))
    assert error_code(answer) == (503, "TOO_MANY_CALLS")
    assert answer.headers["Retry-After"]
    assert caller.get(proxied(connect(), "/me")).status_code == 200
    berths[0].leave()
    assert caller.get(proxied(row, "/me")).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_every_way_out_gives_its_place_back(connect: Connect, caller: RestClient, settings: Any) -> None:
    row = connect(retry_config={"max_retries": 0})
    for path in ("/me", "/status/500", "/disconnect", "/items/page?total=5000&limit=5000"):
        answer = caller.get(proxied(row, path))
        answer.close()
    assert caller.get(proxied(row, "/me"), headers={"Idempotency-Key": "k"}).status_code == 200
    assert caller.post(proxied(row, "/echo"), headers={"Idempotency-Key": "k"}).status_code == 200
    assert caller.get(proxied(row, "/echo?dry_run=curl")).status_code == 200
    settings.MAX_BODY_BYTES = 10
    long = caller.generic("POST", proxied(row, "/echo"), b"x" * 20, headers={"Idempotency-Key": "another"})
    assert error_code(long) == (413, "PAYLOAD_TOO_LARGE")
    assert bulkhead()._sum == 0
    assert bulkhead()._under_way == {}


def test_calls_go_on_without_valkey(connect: Connect, caller: RestClient, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    path = proxied(connect(rate_limit={"requests_per_second": 100}), "/me")
    answers = [caller.get(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_no_answer_of_ours_holds_a_secret(connect: Connect, caller: RestClient, token: str, caplog: Any) -> None:
    row = connect()
    texts = [
        json.dumps(dict(answer.headers)) + answer.content.decode()
        for answer in (
            caller.get(proxied(row, "/status/500")),
            caller.get(proxied(row, "/../x")),
            caller.get(proxied(row, "/echo?dry_run=curl")),
            RestClient().get(proxied(row, "/me"), headers={"Authorization": f"Bearer {token}x"}),
        )
    ]
    for secret in (token, credentials.BEARER_TOKEN):
        assert secret not in "".join(texts)
        assert secret not in caplog.text


@pytest.mark.parametrize(
    "location", ["/outside/secret", "/auth/bearer/secret", "/auth/bearer/%2e%2e/x", "/auth/bearer/a//b"]
)
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_leads_nowhere_that_the_caller_may_not_go(
    connect: Connect, caller: RestClient, location: str, status: int
) -> None:
    heads: list[bytes] = []

    def play(client: socket.socket) -> None:
        heads.append(read_head(client))
        client.sendall(f"HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    with serve(play) as port:
        rules = {"paths": ["/ok/**", "/**/b"]}
        row = connect(base_url=f"http://127.0.0.1:{port}/auth/bearer", proxy=rules)
        answer = caller.get(proxied(row, "/ok/x"))
    assert (answer.status_code, answer.headers["Location"]) == (status, location)
    assert len(heads) == 1


def test_a_stranger_renews_nothing(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[str] = []

    def touch(row: ExternalApiConnection) -> ExternalApiConnection:
        touched.append(row.pk)
        return row

    monkeypatch.setattr(warm, "ensure_fresh", touch)
    mine, other = make_tenant(), make_tenant()
    row = connect(tenant=mine)
    key = make_key(scopes=["proxy"], tenant=other)
    stranger = RestClient(headers={"Authorization": f"Bearer {key.token}"})
    assert error_code(stranger.get(proxied(row, "/me"))) == (404, "NOT_FOUND")
    assert touched == []


def test_what_is_cut_short_keeps_its_place_until_the_caller_is_gone(connect: Connect, caller: RestClient) -> None:
    """Whoever waits for the end of it has one of the threads."""
    cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (80_000, bytes(80_000))
    with serve(answering(cut)) as port:
        answer: Any = caller.get(proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x"))
        pieces = iter(answer.streaming_content)
        while next(pieces):
            pass
        assert bulkhead()._sum == 1
        answer.close()
        assert bulkhead()._sum == 0
