"""GraphQL: variables, errors with their paths, partial data, and budgets of points."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connections.client import Clock
from connections.client.graphql import _find_cost as find_cost
from connections.sandbox import credentials
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
