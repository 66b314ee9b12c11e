"""``/api/external/blogs``."""

from __future__ import annotations

from typing import Annotated, Any

from django.conf import settings
from django.urls import path
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, Deleted, PageQuery, deletes, lists, reads, writes
from external_apis.backoffice import blogs
from external_apis.backoffice.models import Blog, BlogStatus
from external_apis.json_output import Timestamp


class BlogSummary(CamelAnswer):
    id: str
    slug: str
    title: str
    excerpt: str
    author: str
    status: BlogStatus
    published_at: Timestamp | None
    """From when on a published post is seen."""
    tenant_id: str | None
    url: str
    """The page that shows it once it is published."""
    created_at: Timestamp
    updated_at: Timestamp


class BlogItem(BlogSummary):
    body: str
    """Markdown."""


class NewBlog(blogs.BlogInput):
    model_config = ConfigDict(alias_generator=to_camel)


class BlogPatch(blogs.BlogChanges):
    model_config = ConfigDict(alias_generator=to_camel)


class BlogQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the title, slug or excerpt."""
    status: BlogStatus = BlogStatus.DRAFT
    """Of any status unless given."""


class BlogList(ResourceView):
    @lists("list_blogs", "content:read", BlogSummary, BlogQuery, "List blog posts, without their bodies")
    def get(self, request: Request) -> Response:
        return self.page(blogs.matching_blogs(self.scope, **self.query.filters()), _summary)

    @writes("create_blog", "content:write", NewBlog, BlogItem, "Write a blog post", status=201)
    def post(self, request: Request) -> Response:
        self.require_live()
        return self.answer(_shown(blogs.create_blog(self.given, self.scope)))


class BlogPage(ResourceView):
    @reads("get_blog", "content:read", BlogItem, "Show a blog post")
    def get(self, request: Request, blog_id: str) -> Response:
        return self.answer(_shown(blogs.find_blog(blog_id, self.scope)))

    @writes("update_blog", "content:write", BlogPatch, BlogItem, "Change, publish or withdraw a blog post")
    def patch(self, request: Request, blog_id: str) -> Response:
        self.require_live()
        return self.answer(_shown(blogs.update_blog(blogs.find_blog(blog_id, self.scope), self.given)))

    @deletes("delete_blog", "content:write", "Delete a blog post")
    def delete(self, request: Request, blog_id: str) -> Response:
        self.require_live()
        blogs.delete_blog(blogs.find_blog(blog_id, self.scope))
        return self.answer(Deleted(id=blog_id).model_dump(by_alias=True))


def _summary(row: Blog) -> dict[str, Any]:
    return _of(BlogSummary, row)


def _shown(row: Blog) -> dict[str, Any]:
    return _of(BlogItem, row)


def _of(model: type[BlogSummary], row: Blog) -> dict[str, Any]:
    columns = {name: getattr(row, name) for name in model.model_fields if name != "url"}
    columns |= {"status": BlogStatus(row.status), "url": f"{settings.PUBLIC_BASE_URL}{blogs.page_path(row)}"}
    item = model.model_construct(**columns)
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("blogs", BlogList.as_view()),
    path("blogs/<str:blog_id>", BlogPage.as_view()),
]
