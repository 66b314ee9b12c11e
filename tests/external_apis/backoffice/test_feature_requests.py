"""Feature requests: over REST seen and decided, by the service made and voted for, once by each voter."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from external_apis.backoffice.feature_requests import (
    delete_feature_request,
    find_feature_request,
    update_feature_request,
    vote,
    withdraw_vote,
)
from external_apis.backoffice.models import FeatureRequest, FeatureVote
from external_apis.errors import InvalidInput, NotFound
from external_apis.models import AuditEvent
from external_apis.tenancy import Scope
from tests.content import make_feature_request
from tests.envelope import EXTERNAL, client_of, data_of, failure_of
from tests.factories import make_key, make_tenant
from tests.rest import with_key

REQUESTS = f"{EXTERNAL}/feature-requests"
VOTERS = 8


@pytest.mark.django_db
def test_the_list_has_the_most_wanted_first_and_its_filters(django_assert_num_queries: Any) -> None:
    first, second, third = (make_feature_request(title=title) for title in ("Dark mode", "Export", "Import"))
    vote(third, "ann")
    vote(third, "bob")
    vote(first, "ann")
    update_feature_request(second, {"status": "planned"})
    client = with_key()
    assert [(item["id"], item["votes"]) for item in data_of(client.get(REQUESTS))] == [
        (third.pk, 2),
        (first.pk, 1),
        (second.pk, 0),
    ]
    assert [item["id"] for item in data_of(client.get(f"{REQUESTS}?status=planned"))] == [second.pk]
    assert [item["title"] for item in data_of(client.get(f"{REQUESTS}?search=PORT"))] == ["Import", "Export"]
    assert [item["id"] for item in data_of(client.get(f"{REQUESTS}?perPage=1&page=2"))] == [first.pk]
    assert failure_of(client.get(f"{REQUESTS}?status=dreamt")) == (400, "VALIDATION_ERROR")
    client = client_of(make_key(scopes=["content:read"]).token)
    client.get(REQUESTS)
    for count in (3, 30):
        while FeatureRequest.objects.count() < count:
            make_feature_request()
        with django_assert_num_queries(3 if count > 20 else 2):  # the key, the page, and the total of what is more
            client.get(f"{REQUESTS}?search={'i' if count == 3 else ''}")


@pytest.mark.django_db
def test_what_becomes_of_a_request() -> None:
    row = make_feature_request()
    vote(row, "ann")
    client = client_of(make_key(scopes=["content:write"]).token)
    answer = data_of(client.send("patch", f"{REQUESTS}/{row.pk}", {"status": "in_progress"}))
    assert (answer["status"], answer["votes"]) == ("in_progress", 1)
    event = AuditEvent.objects.get(action="feature_request.updated")
    assert event.changes == {"status": ["open", "in_progress"]}
    for body in ({"status": "dreamt"}, {}, {"status": "done", "votes": 100}, {"title": "x", "status": "done"}):
        assert failure_of(client.send("patch", f"{REQUESTS}/{row.pk}", body)) == (400, "VALIDATION_ERROR")
    assert failure_of(client.get(REQUESTS)) == (403, "FORBIDDEN")
    reader = client_of(make_key(scopes=["content:read"]).token)
    assert failure_of(reader.send("patch", f"{REQUESTS}/{row.pk}", {"status": "done"})) == (403, "FORBIDDEN")


@pytest.mark.django_db
def test_a_tenant_and_a_test_key() -> None:
    home = make_tenant()
    mine, other, nobodys = make_feature_request(home), make_feature_request(make_tenant()), make_feature_request()
    client = client_of(make_key(tenant=home).token)
    assert [item["id"] for item in data_of(client.get(REQUESTS))] == [mine.pk]
    for row in (other, nobodys):
        assert failure_of(client.send("patch", f"{REQUESTS}/{row.pk}", {"status": "done"})) == (404, "NOT_FOUND")
    tester = client_of(make_key(mode="test").token)
    assert data_of(tester.get(REQUESTS)) == []
    assert failure_of(tester.send("patch", f"{REQUESTS}/{mine.pk}", {"status": "done"})) == (403, "FORBIDDEN")
    with pytest.raises(NotFound):
        make_feature_request(tenant_id="ten_missing")
    with pytest.raises(NotFound):
        find_feature_request(other.pk, Scope(home.pk))


@pytest.mark.django_db
def test_a_vote_counts_once_and_can_be_taken_back() -> None:
    row = make_feature_request()
    assert [vote(row, "ann"), vote(row, "ann"), vote(row, "bob")] == [True, False, True]
    assert [withdraw_vote(row, "ann"), withdraw_vote(row, "ann")] == [True, False]
    row.refresh_from_db()
    assert (row.votes, FeatureVote.objects.get().voter) == (1, "bob")
    for voter in ("", "x" * 201, "nul\0"):
        with pytest.raises(InvalidInput):
            vote(row, voter)
    delete_feature_request(row)
    assert not FeatureVote.objects.exists()
    with pytest.raises(NotFound):
        vote(row, "ann")


@pytest.mark.django_db(transaction=True)
def test_votes_that_are_cast_at_once_all_count_and_a_change_loses_none() -> None:
    """Half of the voters vote twice; meanwhile somebody decides."""
    row = make_feature_request()
    barrier = threading.Barrier(VOTERS + 1)

    def work(number: int) -> None:
        barrier.wait()
        if number == VOTERS:
            update_feature_request(row, {"status": "planned"})
        else:
            vote(row, f"voter-{number // 2}")
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(VOTERS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    row.refresh_from_db()
    assert (row.votes, FeatureVote.objects.count(), row.status) == (VOTERS // 2, VOTERS // 2, "planned")
    told = AuditEvent.objects.filter(action="feature_request.voted").values_list("changes", flat=True)
    assert sorted(changes["votes"] for changes in told) == [[votes, votes + 1] for votes in range(VOTERS // 2)]
