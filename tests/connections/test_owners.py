"""Who looks after a connection that names nobody: whoever made it, or the link that made it."""

from __future__ import annotations

from typing import Any

import pytest

from connections.connect_links.invitations import create_link, link_url
from connections.models import ExternalApiConnection
from external_apis import request_context
from external_apis.models import Account
from tests.factories import MANAGER, make_connection, make_provider, make_user
from tests.rest import RestClient, connections_of, signed_in, with_key

pytestmark = pytest.mark.django_db(transaction=True)

BODY = {"connection_name": "Ours", "credentials": {"access_token": "token-of-the-tests"}}


@pytest.fixture
def alice() -> Any:
    return make_user("alice", permissions=MANAGER, is_superuser=True)


def made(client: RestClient, **more: Any) -> ExternalApiConnection:
    answer = client.send("post", connections_of(make_provider()), {**BODY, **more})
    assert answer.status_code == 201, answer.content
    return ExternalApiConnection.objects.get(pk=answer.json()["id"])


def test_a_session_owns_what_it_makes_unless_it_names_somebody(alice: Any) -> None:
    bob = Account.objects.get(user=make_user("bob"))
    client = signed_in(alice)
    assert made(client).owner == alice.external_apis_account
    assert made(client, owner_id=bob.pk).owner == bob
    assert made(with_key()).owner is None
    assert make_connection().owner is None


def test_a_link_makes_what_its_creator_owns(alice: Any) -> None:
    with request_context.acting("user:alice", user_id=alice.pk):
        link = create_link(make_provider(), {})
    path = link_url(link).removeprefix("http://127.0.0.1:8000")
    assert RestClient().post(path, {"access_token": "token-of-the-tests"}).status_code == 302
    assert ExternalApiConnection.objects.get().owner == alice.external_apis_account
