"""The small GraphQL: seed 004's documents word for word, errors with paths, and documents that are none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.connections.sandbox.conftest import Client

GET_USER = """
  query GetUser($id: ID!) {
    user(id: $id) {
      id
      name
      email
      orders {
        id
        total
        status
      }
    }
  }
"""
CREATE_USER = """
  mutation CreateUser($input: CreateUserInput!) {
    createUser(input: $input) {
      id
      name
      email
      createdAt
    }
  }
"""


def ask(client: Client, query: str, **variables: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/graphql", json={"query": query, "variables": variables}).json()
    return answer


def test_query_with_variables(client: Client) -> None:
    user = {"id": "7", "name": "User 7", "email": "user-7@example.com"}
    orders = [{"id": "7-1", "total": 10, "status": "PAID"}, {"id": "7-2", "total": 20, "status": "PAID"}]
    assert ask(client, GET_USER, id="7") == {"data": {"user": {**user, "orders": orders}}}


def test_what_a_mutation_creates_can_be_read(client: Client) -> None:
    made = ask(client, CREATE_USER, input={"name": "Ada", "email": "ada@example.com", "role": "USER"})
    created = made["data"]["createUser"]
    assert set(created) == {"id", "name", "email", "createdAt"}
    assert ask(client, GET_USER, id=created["id"])["data"]["user"]["name"] == "Ada"


def test_an_error_has_its_path_beside_null(client: Client) -> None:
    assert ask(client, GET_USER, id="missing") == {
        "data": {"user": None},
        "errors": [{"message": "No such user", "path": ["user"]}],
    }


def test_partial_data_stays(client: Client) -> None:
    answer = ask(client, GET_USER, id="partial")
    assert answer["data"]["user"]["name"] == "User partial"
    assert answer["data"]["user"]["orders"] is None
    assert answer["errors"] == [{"message": "Orders are away", "path": ["user", "orders"]}]


def test_aliases_literals_and_several_fields(client: Client) -> None:
    answer = ask(client, '{ a: user(id: "1") { name } b: user(id: 2) { mail: email, nothing } } # done')
    assert answer["data"] == {"a": {"name": "User 1"}, "b": {"mail": "user-2@example.com", "nothing": None}}
    assert answer["errors"][0]["path"] == ["b", "nothing"]


def test_the_operation_is_chosen_by_name(client: Client) -> None:
    body = {"query": GET_USER + CREATE_USER, "operationName": "GetUser", "variables": {"id": "3"}}
    assert client.post("/graphql", json=body).json()["data"]["user"]["id"] == "3"
    del body["operationName"]
    assert client.post("/graphql", json=body).status_code == 400


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "Exactly one operation"),
        ("{", "unexpected end of document"),
        ("{ }", "unexpected"),
        ("query Q($id: ID!) { user(id: $id) { id } }", "Variable $id is required"),
        ("{ user(id: $id) { id } }", "Variable $id is not defined"),
        ("{ accounts { id } }", "Cannot query field accounts on type Query"),
        ("mutation { user(id: 1) { id } }", "Cannot query field user on type Mutation"),
        ("subscription { user { id } }", "subscription is not supported"),
        ("{ user(id: 1) { ...F } }", "unexpected ..."),
        ('{ user(id: "a\nb") { id } }', "unexpected character"),
        ("{ a" * 50, "nested deeper"),
        ("{ user(id: " + "[" * 5_000, "nested deeper"),
        ("{ user(id: " + "9" * 5_000 + ") { id } }", "malformed"),
    ],
)
def test_documents_that_are_none(client: Client, query: str, message: str) -> None:
    answer = client.post("/graphql", json={"query": query})
    assert answer.status_code == 400
    assert message in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("{ user(id: 1) { orders } }", ["user", "orders", 0]),
        ("{ user(id: 1) }", ["user"]),
        ("{ user(id: 1) { name { first } } }", ["user", "name"]),
        ("{ user { id } }", ["user"]),
        ("mutation { createUser(input: {name: 1}) { id } }", ["createUser"]),
        ("mutation { createUser { id } }", ["createUser"]),
    ],
)
def test_fields_that_cannot_be_answered(client: Client, query: str, path: list[Any]) -> None:
    assert ask(client, query)["errors"][0]["path"] == path


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"query": 1}', 400),
        (b"[" * 100_000, 400),
        (b'{"query":"{a}","variables":[1]}', 400),
    ],
)
def test_bodies_that_are_none(client: Client, body: bytes, status: int) -> None:
    assert client.post("/graphql", data=body, headers={"Content-Type": "application/json"}).status_code == status
    assert client.post("/graphql", data=body).status_code == 415
