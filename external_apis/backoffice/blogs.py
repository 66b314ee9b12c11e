"""Write, find and publish blog posts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from datetime import datetime
from itertools import count
from typing import Annotated, Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify
from pydantic import BaseModel, ConfigDict, Field

from external_apis import audit
from external_apis.backoffice.models import Blog, BlogStatus
from external_apis.errors import Conflict, NotFound
from external_apis.ids import can_name
from external_apis.provider_input import Name, RowId, read_body
from external_apis.tenancy import EVERYTHING, Scope
from external_apis.tenants import find_tenant
from external_apis.time_input import Moment

__all__ = [
    "BODY_AT_MOST",
    "BlogChanges",
    "BlogInput",
    "create_blog",
    "delete_blog",
    "find_blog",
    "find_published",
    "matching_blogs",
    "page_path",
    "published_blogs",
    "update_blog",
    "visible_blogs",
]

BODY_AT_MOST = 100_000
"""Characters, some 15,000 words: the worst of them take two seconds to render."""

_SLUG_AT_MOST = 100
_TRIES = 20

Slug = Annotated[str, Field(max_length=_SLUG_AT_MOST, pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$")]
Body = Annotated[str, Field(max_length=BODY_AT_MOST)]
Excerpt = Annotated[str, Field(max_length=500)]
Author = Annotated[str, Field(max_length=100, pattern=r"^[^\r\n]*$")]


class BlogInput(BaseModel):
    """What `create_blog` takes."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    title: Name
    slug: Slug | None = None
    """The last part of the page's address; made from the title unless given."""
    body: Body = ""
    """Markdown."""
    excerpt: Excerpt = ""
    """Plain text, for lists and search engines."""
    author: Author = ""
    """As readers see it."""
    status: BlogStatus = BlogStatus.DRAFT
    published_at: Moment | None = None
    """From when on a published post is seen; may lie ahead. The moment of publishing unless given."""
    tenant_id: RowId | None = None
    """The tenant whose post it is."""


class BlogChanges(BaseModel):
    """What `update_blog` takes: what is not mentioned stays."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    title: Name = ""
    slug: Slug = ""
    body: Body = ""
    excerpt: Excerpt = ""
    author: Author = ""
    status: BlogStatus = BlogStatus.DRAFT
    published_at: Moment | None = None


def visible_blogs(scope: Scope) -> QuerySet[Blog]:
    """The posts that somebody of this scope may change: all, or the tenant's; the sandbox has none."""
    return Blog.objects.none() if scope.is_sandbox else scope.own(Blog.objects.all())


def matching_blogs(scope: Scope, *, search: str = "", status: str = "") -> QuerySet[Blog]:
    """Those of them with a part of their title, slug or excerpt, or a status, the latest first and without bodies."""
    rows = visible_blogs(scope).select_related("tenant").defer("body")
    if status:
        rows = rows.filter(status=status)
    if search:
        rows = rows.filter(Q(title__icontains=search) | Q(slug__icontains=search) | Q(excerpt__icontains=search))
    return rows


def find_blog(blog_id: str, scope: Scope = EVERYTHING) -> Blog:
    """Return a post of the scope. Raises `NotFound`."""
    rows = visible_blogs(scope).select_related("tenant")
    row = rows.filter(pk=blog_id).first() if can_name(blog_id) else None
    if row is None:
        raise NotFound(f"Blog post {ascii(blog_id)[1:-1]} not found")
    return row


def create_blog(data: Mapping[str, Any], scope: Scope = EVERYTHING) -> Blog:
    """Store a post; a tenant's own caller makes the tenant's alone.

    Raises `InvalidInput`, `NotFound` for a foreign tenant, and `Conflict` for a slug in use.
    """
    body = read_body(BlogInput, data)
    tenant_id = body.tenant_id or scope.tenant_id
    tenant = find_tenant(tenant_id, scope) if tenant_id else None
    row = Blog(tenant=tenant, **body.model_dump(exclude={"slug", "tenant_id"}))
    if body.slug is None:
        return _store_under_free_slug(row)
    row.slug = body.slug
    return _store(row, None)


def update_blog(row: Blog, data: Mapping[str, Any]) -> Blog:
    """Change a post. Raises `InvalidInput`, `NotFound` where it is gone, and `Conflict` for a slug in use."""
    body = read_body(BlogChanges, data)
    with transaction.atomic():
        row = _locked(row)
        before = copy(row)
        for name in body.model_fields_set:
            setattr(row, name, getattr(body, name))
        return _store(row, before)


def delete_blog(row: Blog) -> None:
    """Delete a post for good. Raises `NotFound` where it is gone."""
    with transaction.atomic():
        row = _locked(row)
        audit.record("blog.deleted", row, {"slug": [row.slug, None], "title": [row.title, None]})
        row.delete()


def published_blogs(tenant_slug: str | None, now: datetime) -> QuerySet[Blog]:
    """What everybody may read of a tenant that is active, or of the installation, the latest first."""
    rows = Blog.objects.filter(status=BlogStatus.PUBLISHED, published_at__lte=now).order_by("-published_at", "-id")
    if tenant_slug is None:
        return rows.filter(tenant=None)
    return rows.filter(tenant__slug=tenant_slug, tenant__is_active=True).select_related("tenant")


def find_published(slug: str, tenant_slug: str | None, now: datetime) -> Blog:
    """Return what everybody may read. Raises `NotFound`, for a draft too."""
    row = published_blogs(tenant_slug, now).filter(slug=slug).first()
    if row is None:
        raise NotFound("There is no such post.")
    return row


def page_path(row: Blog) -> str:
    """Return the path of a post's page, which shows it once it is published."""
    if row.tenant is None:
        return reverse("blog-post", args=[row.slug])
    return reverse("tenant-blog-post", args=[row.tenant.slug, row.slug])


# --- parts --------------------------------------------------------------------------------------------------------


def _locked(row: Blog) -> Blog:
    found = Blog.objects.select_for_update(of=("self",)).select_related("tenant").filter(pk=row.pk).first()
    if found is None:
        raise NotFound(f"Blog post {row.pk} not found")
    return found


def _store_under_free_slug(row: Blog) -> Blog:
    """Whoever finds the slug taken meanwhile takes the next one; nobody is told of a slug that was not given."""
    for _ in range(_TRIES):
        row.slug = _free_slug(row)
        with suppress(Conflict):
            return _store(row, None)
    row.slug = _unique_slug(row)
    return _store(row, None)


def _unique_slug(row: Blog) -> str:
    return row.pk.replace("_", "-")


def _free_slug(row: Blog) -> str:
    """Return a slug made from the title, or from the id where there is nothing of a title to make one from."""
    made = re.sub(r"[-_]+", "-", slugify(row.title))[: _SLUG_AT_MOST - 6].strip("-")
    base = made or _unique_slug(row)
    taken = set(Blog.objects.filter(tenant=row.tenant, slug__startswith=base).order_by().values_list("slug", flat=True))
    return next(slug for number in count(1) if (slug := base if number == 1 else f"{base}-{number}") not in taken)


def _store(row: Blog, before: Blog | None) -> Blog:
    if row.status == BlogStatus.PUBLISHED and row.published_at is None:
        row.published_at = timezone.now()
    try:
        with transaction.atomic():
            row.save(force_insert=before is None)
            audit.record(f"blog.{'updated' if before else 'created'}", row, _facts(row, before))
    except IntegrityError:
        raise Conflict(f"There is a post with the slug {row.slug} already.") from None
    return row


def _facts(row: Blog, before: Blog | None) -> dict[str, Any]:
    """Of the body its lengths: two of them would be most of the audit log."""
    facts = audit.changed_fields(row, before)
    if "body" in facts:
        facts["body"] = [f"{len(text or '')} characters" for text in facts["body"]]
    return facts
