"""GraphQL: variables, errors with their paths, partial data, and budgets of points."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connections.client import Clock, Event
from connections.sandbox import credentials
from connections.wire.graphql import _find_cost as find_cost
from external_apis.errors import BadAnswer, GraphqlError, RateLimited, UpstreamUnauthorized
from tests.connections.client.conftest import MakeClient
from tests.sandbox import Sandbox
from tests.sockets import read_head, serve

USER = "query GetUser($id: ID!) { user(id: $id) { id name orders { id total } } }"
CREATE = "mutation CreateUser($input: CreateUserInput!) { createUser(input: $input) { id name } }"


def test_a_query_with_variables_gives_its_data(make_client: MakeClient) -> None:
    data = make_client("bearer").graphql(USER, {"id": "7"})
    assert data["user"]["name"] == "User 7"
    assert [order["total"] for order in data["user"]["orders"]] == [10, 20]


def test_a_mutation_is_sent_with_its_input(make_client: MakeClient) -> None:
    created = make_client().graphql(CREATE, {"input": {"name": "Ada", "email": "a@example.com"}})
    assert created["createUser"]["name"] == "Ada"


def test_the_path_is_the_providers_or_the_calls(make_client: MakeClient) -> None:
    client = make_client(graphql_path="/auth/bearer/graphql")
    with pytest.raises(UpstreamUnauthorized):
        client.graphql(USER, {"id": "7"})
    assert client.graphql(USER, {"id": "7"}, path="/graphql")["user"]["id"] == "7"


def test_errors_are_raised_with_their_paths_and_keep_partial_data(make_client: MakeClient) -> None:
    with pytest.raises(GraphqlError, match=r"Orders are away \(at user\.orders\)") as caught:
        make_client().graphql(USER, {"id": "partial"})
    error = caught.value
    assert error.paths == ["user.orders"]
    assert error.errors[0]["path"] == ["user", "orders"]
    assert error.data["user"]["name"] == "User partial"
    assert error.data["user"]["orders"] is None
    assert error.may_have_happened
    assert not error.is_transient


def test_an_error_status_with_graphql_errors_is_one_of_them(make_client: MakeClient) -> None:
    with pytest.raises(GraphqlError, match="Cannot query field nothing"):
        make_client().graphql("{ nothing }")


def test_an_error_that_quotes_a_credential_does_not_hand_it_on(make_client: MakeClient) -> None:
    body = json.dumps({"errors": [{"message": f"bad token {credentials.BEARER_TOKEN}\x1b[31m"}]}).encode()
    with answer(body) as port, pytest.raises(GraphqlError, match=r"bad token \[redacted\]") as caught:
        make_client("bearer", base_url=f"http://127.0.0.1:{port}").graphql("{ a }")
    assert credentials.BEARER_TOKEN not in f"{caught.value!r} {caught.value.details}"
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_graphql_answer_is_an_error(make_client: MakeClient, body: bytes) -> None:
    with answer(body) as port, pytest.raises(BadAnswer, match="GraphQL"):
        make_client(base_url=f"http://127.0.0.1:{port}").graphql("{ a }")


@pytest.mark.parametrize("errors", [b'"a"', b'{"message": 1}', b"[1, null]", b'[{"message": null, "path": [1, "a"]}]'])
def test_oddly_shaped_errors_are_still_errors(make_client: MakeClient, errors: bytes) -> None:
    with answer(b'{"errors": ' + errors + b"}") as port, pytest.raises(GraphqlError):
        make_client(base_url=f"http://127.0.0.1:{port}").graphql("{ a }")


def test_what_is_refused_for_its_cost_is_tried_again_when_the_budget_has_grown(
    make_client: MakeClient, sandbox: Sandbox
) -> None:
    client = make_client(graphql_path="/graphql?key=cost-1&budget=30&restore=200", clock=Clock())
    for number in range(4):  # 15 points each
        assert client.graphql(USER, {"id": str(number)})["user"]["id"] == str(number)


REFUSED = {"message": "slow down", "extensions": {"code": "RATE_LIMITED"}}


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        ({"a": {"id": 1}, "b": None}, [REFUSED]),
        ({"a": False, "b": None}, [REFUSED]),
        (None, [REFUSED, {"message": "timed out"}]),
    ],
)
def test_what_may_have_been_done_is_not_asked_for_again(make_client: MakeClient, data: Any, errors: list[Any]) -> None:
    heads: list[bytes] = []
    with answers([{"data": data, "errors": errors}], heads) as port, pytest.raises(GraphqlError) as caught:
        make_client(base_url=f"http://127.0.0.1:{port}").graphql("mutation { a: order { id } b: order { id } }")
    assert len(heads) == 1
    assert caught.value.may_have_happened
    assert not caught.value.is_transient
    assert caught.value.data == data


def test_an_operation_and_its_repetitions_are_one_call(
    make_client: MakeClient, events: list[Event], fake_time: Any
) -> None:
    heads: list[bytes] = []
    refusal: Any = {"data": {"a": None}, "errors": [REFUSED]}
    with answers([refusal, refusal, {"data": {"a": 1}}], heads) as port:
        config: Any = {
            "base_url": f"http://127.0.0.1:{port}",
            "retry_config": {"idempotency_header": "Idempotency-Key"},
        }
        assert make_client(**config).graphql("mutation { a }") == {"a": 1}
    keys = {line for head in heads for line in head.split(b"\r\n") if line.startswith(b"Idempotency-Key")}
    assert (len(heads), len(keys)) == (3, 1)
    assert [(event.seconds, event.reason) for event in events if event.kind == "wait"] == [(1.0, "GRAPHQL_ERROR")] * 2
    assert fake_time.slept == [1.0, 1.0]
    assert [(event.status, event.attempt) for event in events if event.kind == "outcome"] == [(200, 3)]
    assert len({event.request_id for event in events}) == 1


def test_a_budget_that_does_not_grow_in_time_is_an_error(make_client: MakeClient, fake_time: Any) -> None:
    path = "/graphql?key=cost-2&budget=20&restore=0.01"
    first = make_client(graphql_path=path)
    first.graphql(USER, {"id": "1"})
    with pytest.raises(RateLimited) as refused:  # its answer said that the budget is used up
        first.graphql(USER, {"id": "2"}, deadline_ms=5000)
    assert 900 < refused.value.retry_after_seconds < 1001
    with pytest.raises(GraphqlError, match="Throttled") as caught:
        make_client(graphql_path=path).graphql(USER, {"id": "2"}, deadline_ms=5000)
    assert caught.value.is_transient
    assert not caught.value.may_have_happened
    assert 900 < (caught.value.retry_after_seconds or 0) < 1001
    assert fake_time.slept == []


def test_costs_are_read_as_shopify_and_github_give_them() -> None:
    status = {"maximumAvailable": 1000, "currentlyAvailable": 40, "restoreRate": 50}
    shopify = find_cost({"extensions": {"cost": {"requestedQueryCost": 140, "throttleStatus": status}}}, 0)
    assert shopify is not None
    assert (shopify.available, shopify.needed, shopify.wait_seconds) == (40, 140, 2)
    github = {"data": {"rateLimit": {"cost": 5, "remaining": 1, "resetAt": "1970-01-01T00:01:00Z"}}}
    cost = find_cost(github, 20)
    assert cost is not None
    assert cost.wait_seconds == 40
    others: tuple[Any, ...] = (
        {},
        [],
        None,
        {"extensions": {"cost": {"throttleStatus": {"restoreRate": 0}}}},
        {"data": {"a": 1}},
    )
    for other in others:
        assert find_cost(other, 0) is None


def answer(body: bytes) -> Any:
    def play(client: Any) -> None:
        while True:
            read_head(client)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return serve(play)


def answers(bodies: list[Any], heads: list[bytes]) -> Any:
    """Give one body after the other, the last one for ever."""

    def play(client: Any) -> None:
        while True:
            head = read_head(client)
            heads.append(head)
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            received = head.partition(b"\r\n\r\n")[2]
            while len(received) < length:
                received += client.recv(65536)
            body = json.dumps(bodies[min(len(heads), len(bodies)) - 1]).encode()
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return serve(play)
