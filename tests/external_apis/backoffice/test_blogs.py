"""Blog posts over REST and by the service: slugs, publishing, whose they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice.blogs import BODY_AT_MOST, create_blog, delete_blog, find_blog, update_blog
from external_apis.backoffice.models import Blog
from external_apis.errors import Conflict, InvalidInput, NotFound
from external_apis.models import AuditEvent
from external_apis.tenancy import Scope
from tests.content import make_blog
from tests.envelope import EXTERNAL, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant
from tests.rest import with_key

pytestmark = pytest.mark.django_db

BLOGS = f"{EXTERNAL}/blogs"
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def test_a_post_from_its_draft_to_its_end() -> None:
    client = client_of(make_key(scopes=["content:write", "content:read"]).token)
    made = data_of(client.send("post", BLOGS, {"title": "Hello, World!", "body": "# Hi"}), 201)
    assert made | {"id": "", "createdAt": "", "updatedAt": ""} == {
        "id": "", "createdAt": "", "updatedAt": "", "slug": "hello-world", "title": "Hello, World!", "excerpt": "",
        "author": "", "status": "draft", "publishedAt": None, "tenantId": None, "body": "# Hi",
        "url": "http://127.0.0.1:8000/blog/hello-world",
    }  # fmt: skip
    url = f"{BLOGS}/{made['id']}"
    assert data_of(client.get(url)) == made
    with time_machine.travel(NOW, tick=False):
        published = data_of(client.send("patch", url, {"status": "published", "author": "Ann"}))
    assert (published["publishedAt"], published["author"]) == ("2026-03-10T12:00:00.000Z", "Ann")
    again = data_of(client.send("patch", url, {"publishedAt": "2026-04-01T08:00:00+02:00", "slug": "hi"}))
    assert (again["publishedAt"], again["status"], again["slug"]) == ("2026-04-01T06:00:00.000Z", "published", "hi")
    assert data_of(client.send("delete", url)) == {"id": made["id"], "deleted": True}
    for method, body in (("get", None), ("patch", {"title": "x"}), ("delete", None)):
        assert failure_of(client.send(method, url, body)) == (404, "NOT_FOUND")


def test_the_list_its_filters_and_its_search() -> None:
    first = make_blog(title="Alpha", excerpt="about prices", body="hidden words")
    second = make_blog(title="Beta", status="published")
    client = with_key()
    items = data_of(client.get(BLOGS))
    assert [item["id"] for item in items] == [second.pk, first.pk]
    assert "body" not in items[0]
    for query, found in (
        ("status=published", [second.pk]),
        ("status=draft", [first.pk]),
        ("search=PRICE", [first.pk]),
        ("search=bet", [second.pk]),
        ("search=hidden", []),
        ("search=%25", []),
        ("perPage=1&page=2", [first.pk]),
    ):
        assert [item["id"] for item in data_of(client.get(f"{BLOGS}?{query}"))] == found, query
    for query in ("status=gone", "page=0", "perPage=101", "order=title", "search=a%00"):
        assert failure_of(client.get(f"{BLOGS}?{query}")) == (400, "VALIDATION_ERROR"), query


def test_the_number_of_queries_does_not_follow_the_rows() -> None:
    client = client_of(make_key(scopes=["content:read"]).token)
    client.get(BLOGS)
    counts = []
    for rows in (1, 30):
        while Blog.objects.count() < rows:
            make_blog(make_tenant())
        with CaptureQueriesContext(connection) as captured:
            assert len(data_of(client.get(f"{BLOGS}?perPage=30"))) == rows
        counts.append(len(captured))
    assert counts == [2, 2]


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Über uns & Co.", "uber-uns-co"),
        ("snake_case -- and--dashes-", "snake-case-and-dashes"),
        ("A" * 200, "a" * 94),
        ("../../etc/passwd", "etcpasswd"),
        ("<script>alert(1)</script>", "scriptalert1script"),
    ],
)
def test_a_slug_is_made_from_the_title(title: str, slug: str) -> None:
    row = make_blog(title=title)
    assert row.slug == slug
    assert [make_blog(title=title).slug for _ in range(2)] == [f"{slug}-2", f"{slug}-3"]


def test_a_title_without_letters_that_fit_gives_the_id() -> None:
    row = make_blog(title="日本語")
    assert row.slug == row.pk.replace("_", "-")


@pytest.mark.django_db(transaction=True)
def test_posts_of_one_title_that_are_made_at_once() -> None:
    """Nobody gave a slug, so nobody is told of one that is taken."""

    def make(_number: int) -> str:
        try:
            return create_blog({"title": "Race me"}).slug
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        slugs = set(threads.map(make, range(16)))
    assert slugs == {"race-me", *(f"race-me-{number}" for number in range(2, 17))}
    assert AuditEvent.objects.filter(action="blog.created").count() == 16


@pytest.mark.parametrize("slug", ["", "A", "a b", "-a", "a-", "a--b", "a/b", "..", "a_b", "ä", "a" * 101, "a\n"])
def test_slugs_that_are_none(slug: str) -> None:
    client = with_key()
    assert named_by(client.send("post", BLOGS, {"title": "T", "slug": slug})) == ["slug"]
    row = make_blog()
    assert named_by(client.send("patch", f"{BLOGS}/{row.pk}", {"slug": slug})) == ["slug"]


def test_a_slug_is_used_once_by_each_tenant() -> None:
    home = make_tenant()
    make_blog(slug="same")
    mine = make_blog(home, slug="same")
    assert make_blog(make_tenant(), slug="same").slug == "same"
    for tenant in (None, home):
        with pytest.raises(Conflict):
            make_blog(tenant, slug="same")
        with pytest.raises(Conflict):
            update_blog(make_blog(tenant), {"slug": "same"})
    assert failure_of(with_key().send("post", BLOGS, {"title": "T", "slug": "same"})) == (409, "CONFLICT")
    update_blog(mine, {"slug": "same", "title": "The same one"})


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "title"),
        ({"title": ""}, "title"),
        ({"title": " x"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "T", "body": "x" * (BODY_AT_MOST + 1)}, "body"),
        ({"title": "T", "body": "nul\0"}, "body"),
        ({"title": "T", "excerpt": "x" * 501}, "excerpt"),
        ({"title": "T", "author": "x" * 101}, "author"),
        ({"title": "T", "author": "Ann\nBob"}, "author"),
        ({"title": "T", "status": "scheduled"}, "status"),
        ({"title": "T", "publishedAt": 5}, "publishedAt"),
        ({"title": "T", "publishedAt": "2026-01-01"}, "publishedAt"),
        ({"title": "T", "publishedAt": "9999-12-31T23:59:59Z"}, "publishedAt"),
        ({"title": "T", "createdAt": "2026-01-01T00:00:00Z"}, "createdAt"),
    ],
)
def test_bad_bodies(body: dict[str, Any], named: str) -> None:
    response = with_key().send("post", BLOGS, body)
    assert failure_of(response) == (400, "VALIDATION_ERROR")
    assert named_by(response) == [named]
    assert not Blog.objects.exists()


def test_whose_posts_are_seen_and_made() -> None:
    home, other = make_tenant(), make_tenant()
    mine, theirs, ours = make_blog(home), make_blog(other), make_blog()
    client = client_of(make_key(tenant=home).token)
    assert [item["id"] for item in data_of(client.get(BLOGS))] == [mine.pk]
    for row in (theirs, ours):
        for method, body in (("get", None), ("patch", {"title": "x"}), ("delete", None)):
            assert failure_of(client.send(method, f"{BLOGS}/{row.pk}", body)) == (404, "NOT_FOUND")
    made = data_of(client.send("post", BLOGS, {"title": "Mine"}), 201)
    assert (made["tenantId"], made["url"]) == (home.pk, f"http://127.0.0.1:8000/blog/{home.slug}/mine")
    assert failure_of(client.send("post", BLOGS, {"title": "T", "tenantId": other.pk})) == (404, "NOT_FOUND")
    operator = with_key()
    assert data_of(operator.send("post", BLOGS, {"title": "T", "tenantId": other.pk}), 201)["tenantId"] == other.pk
    tester = client_of(make_key(mode="test", tenant=home).token)
    assert data_of(tester.get(BLOGS)) == []
    assert failure_of(tester.send("post", BLOGS, {"title": "T"})) == (403, "FORBIDDEN")
    with pytest.raises(NotFound):
        find_blog(theirs.pk, Scope(home.pk))


def test_scopes() -> None:
    row = make_blog()
    reader, writer = (client_of(make_key(scopes=[f"content:{kind}"]).token) for kind in ("read", "write"))
    assert reader.get(f"{BLOGS}/{row.pk}").status_code == 200
    assert failure_of(writer.get(f"{BLOGS}/{row.pk}")) == (403, "FORBIDDEN")
    for method, path, body in (("post", BLOGS, {"title": "T"}), ("patch", f"{BLOGS}/{row.pk}", {"title": "T"})):
        assert failure_of(reader.send(method, path, body)) == (403, "FORBIDDEN")
    assert failure_of(reader.send("delete", f"{BLOGS}/{row.pk}")) == (403, "FORBIDDEN")


def test_the_audit_log_has_no_bodies() -> None:
    row = make_blog(body="swordfish" * 20)
    update_blog(row, {"body": "swordfish", "title": "Other"})
    delete_blog(row)
    created, updated, deleted = AuditEvent.objects.order_by("pk")
    assert created.changes["body"] == ["0 characters", "180 characters"]
    assert updated.changes == {"body": ["180 characters", "9 characters"], "title": [row.title, "Other"]}
    assert deleted.action == "blog.deleted"
    assert "swordfish" not in str([event.changes for event in (created, updated, deleted)])


def test_a_change_of_what_is_gone() -> None:
    row = make_blog()
    delete_blog(find_blog(row.pk))
    with pytest.raises(NotFound):
        update_blog(row, {"title": "x"})
    with pytest.raises(NotFound):
        delete_blog(row)
    with pytest.raises(InvalidInput):
        create_blog({"title": "T", "tenant_id": "no id!"})
