"""Admin pages of content: what the scopes of keys mean, whose rows are seen, and a preview that runs nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.forms import Textarea
from django.test import Client

from external_apis.backoffice.blogs import BODY_AT_MOST
from external_apis.backoffice.feature_requests import vote
from external_apis.backoffice.models import Blog, ContactMessage, FeatureRequest
from external_apis.models import AuditEvent
from external_apis.scopes import permissions_of
from tests.content import make_blog, make_feature_request, make_message
from tests.factories import make_tenant, make_user

pytestmark = pytest.mark.django_db

BLOG, REQUEST, MESSAGE = (f"/admin/backoffice/{name}" for name in ("blog", "featurerequest", "contactmessage"))
POST = {"title": "Hello", "status": "draft"}


def signed_in(*scopes: str, **fields: Any) -> Client:
    client = Client()
    client.force_login(make_user(permissions=sorted(permissions_of(scopes)), **fields))
    return client


def test_permissions_are_those_of_the_scopes() -> None:
    blog, request, message = make_blog(), make_feature_request(), make_message()
    reader, writer, nobody = signed_in("content:read"), signed_in("content:write"), signed_in("analytics:read")
    for base, row in ((BLOG, blog), (REQUEST, request), (MESSAGE, message)):
        statuses = [client.get(f"{base}/{row.pk}/change/").status_code for client in (reader, writer, nobody)]
        assert statuses == [200, 200, 403], base
        assert reader.post(f"{base}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
        assert nobody.post(f"{base}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
        assert reader.post(f"{base}/add/", POST).status_code == 403
        assert writer.post(f"{base}/{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not any(model.objects.exists() for model in (Blog, FeatureRequest, ContactMessage))
    assert writer.post(f"{BLOG}/add/", POST).status_code == 302
    assert writer.post(f"{MESSAGE}/add/", {"name": "x"}).status_code == 403


def test_a_tenants_staff_has_the_tenants_rows_alone() -> None:
    home = make_tenant()
    mine, theirs, ours = make_blog(home), make_blog(make_tenant()), make_blog()
    client = signed_in("content:read", "content:write", tenant=home)
    listed = client.get(f"{BLOG}/").content.decode()
    assert [row.title in listed for row in (mine, theirs, ours)] == [True, False, False]
    for row in (theirs, ours):
        for page in ("change", "preview", "delete"):
            assert client.get(f"{BLOG}/{row.pk}/{page}/").status_code in (302, 404)
            assert row.title not in client.get(f"{BLOG}/{row.pk}/{page}/", follow=True).content.decode()
    client.post(f"{BLOG}/add/", {**POST, "tenant": theirs.tenant_id})
    assert Blog.objects.get(title="Hello").tenant == home


def test_the_form_of_a_post_goes_through_the_service() -> None:
    client = signed_in("content:read", "content:write")
    tenant = make_tenant()
    operator = Client()
    operator.force_login(make_user(is_superuser=True))
    sent = {**POST, "status": "published", "published_at_0": "2027-01-01", "published_at_1": "08:00:00"}
    assert operator.post(f"{BLOG}/add/", {**sent, "tenant": tenant.pk}).status_code == 302
    row = Blog.objects.get()
    assert (row.slug, row.tenant, row.published_at and row.published_at.isoformat()) == (
        "hello",
        tenant,
        "2027-01-01T08:00:00+00:00",
    )
    assert "scheduled" in client.get(f"{BLOG}/").content.decode()
    promise = "Made from the title where it is left empty"
    assert promise in client.get(f"{BLOG}/add/").content.decode()
    assert promise not in client.get(f"{BLOG}/{row.pk}/change/").content.decode(), "there it has to be given"
    page = client.post(f"{BLOG}/{row.pk}/change/", {**sent, "slug": "Not A Slug"}).content.decode()
    assert "errorlist" in page or "error" in page
    row.refresh_from_db()
    assert row.slug == "hello"
    assert client.post(f"{BLOG}/{row.pk}/change/", {**sent, "slug": "hi", "title": "Hi"}).status_code == 302
    event = AuditEvent.objects.filter(action="blog.updated").get()
    assert event.changes == {"slug": ["hello", "hi"], "title": ["Hello", "Hi"]}


def test_the_preview_of_a_draft_runs_nothing(client: Client) -> None:
    row = make_blog(body="*There* <script>alert('preview')</script> [x](javascript:alert(1))")
    reader = signed_in("content:read")
    page = reader.get(f"{BLOG}/{row.pk}/preview/").content.decode()
    assert "<em>There</em>" in page
    assert "backoffice/pages.css" in page, "it is the page that readers will see"
    assert f'href="{BLOG}/{quote(row.pk)}/change/"' in page
    assert "&lt;script&gt;alert('preview')" in page.replace("&#x27;", "'").replace("&#39;", "'")
    assert "<script>alert('preview')" not in page
    assert 'href="javascript:alert' not in page
    assert client.get(f"{BLOG}/{row.pk}/preview/").status_code == 302, "the log-in page"
    assert f"{BLOG}/{quote(row.pk)}/preview/" in reader.get(f"{BLOG}/{row.pk}/change/").content.decode()


def test_votes_are_shown_and_not_edited() -> None:
    row = make_feature_request()
    vote(row, "ann")
    client = signed_in("content:read", "content:write")
    sent = {"title": row.title, "status": "done", "votes": "100", "tenant": make_tenant().pk}
    assert client.post(f"{REQUEST}/{row.pk}/change/", sent).status_code == 302
    row.refresh_from_db()
    assert (row.status, row.votes, row.tenant) == ("done", 1, None)


def test_what_strangers_wrote_is_text() -> None:
    row = make_message(name="<script>alert(1)</script>", message="<img src=x onerror=alert(1)>\nsecond line")
    client = signed_in("content:read", "content:write")
    for address in (f"{MESSAGE}/", f"{MESSAGE}/{row.pk}/change/"):
        page = client.get(address).content.decode()
        assert "<script>alert(1)" not in page
        assert "<img src=x" not in page
    client.post(f"{MESSAGE}/{row.pk}/change/", {"name": "Other"})
    row.refresh_from_db()
    assert row.name == "<script>alert(1)</script>"


@pytest.mark.parametrize("make", [make_blog, make_feature_request, make_message])
def test_the_number_of_queries_of_a_list(make: Any, django_assert_max_num_queries: Any) -> None:
    client = Client()
    client.force_login(make_user(is_superuser=True))
    model = make(make_tenant())._meta.model_name
    client.get(f"/admin/backoffice/{model}/")
    for _ in range(20):
        make(make_tenant())
    with django_assert_max_num_queries(7):
        assert client.get(f"/admin/backoffice/{model}/").status_code == 200


def test_saving_without_a_change_changes_nothing() -> None:
    """A browser sends line ends as CRLF, whatever they were, and the rest of the form as it was shown."""
    client = signed_in("content:read", "content:write")
    body = "    code first\r\n\n" + "line\n" * ((BODY_AT_MOST - 20) // 5) + " \n"
    post = make_blog(body=body, excerpt="one\ntwo ", author="Ann", status="published")
    wish = make_feature_request(description="  - one\n  - two\n")
    for base, row in ((BLOG, post), (REQUEST, wish)):
        form = client.get(f"{base}/{row.pk}/change/").context["adminform"].form
        sent: dict[str, str] = {}
        for field in form:
            value = field.value()
            if isinstance(value, datetime):
                sent |= {f"{field.name}_0": f"{value:%Y-%m-%d}", f"{field.name}_1": f"{value:%H:%M:%S}"}
            elif isinstance(field.field.widget, Textarea):
                sent[field.name] = value.replace("\r\n", "\n").replace("\n", "\r\n")
            else:
                sent[field.name] = value.replace("\n", "")
        assert client.post(f"{base}/{row.pk}/change/", sent).status_code == 302
        found = type(row).objects.filter(pk=row.pk).values(*form.fields).get()
        assert found == {name: getattr(row, name) for name in form.fields}
    client.post(f"{REQUEST}/{wish.pk}/change/", {"title": wish.title, "status": "open", "description": " a\r\nb "})
    wish.refresh_from_db()
    assert wish.description == " a\nb "
