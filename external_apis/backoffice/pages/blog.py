"""The blog of the installation and of each tenant: ``/blog`` and ``/blog/{tenant}/``, a post below them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils import timezone

from external_apis.backoffice import blog_html, blogs
from external_apis.backoffice.pages.answers import PublicPage, show_cached
from external_apis.backoffice.visit_counting import Visit
from external_apis.errors import NotFound

_A_PAGE = 20


class BlogList(PublicPage):
    """The latest posts first. A tenant that has none is as unknown as one that is none."""

    def get(self, request: HttpRequest, tenant_slug: str | None = None) -> HttpResponse:
        rows = blogs.published_blogs(tenant_slug, timezone.now()).defer("body")
        page = Paginator(rows, _A_PAGE).get_page(request.GET.get("page"))
        tenant = page.object_list[0].tenant if tenant_slug and page.object_list else None
        if tenant_slug and tenant is None:
            raise NotFound("There is no such blog.")
        here = reverse("tenant-blog", args=[tenant_slug]) if tenant_slug else reverse("blog")
        context: dict[str, Any] = {
            "tenant": tenant,
            "page": page,
            "posts": [(post, blogs.page_path(post)) for post in page.object_list],
            "canonical": f"{settings.PUBLIC_BASE_URL}{here}" + (f"?page={page.number}" if page.number > 1 else ""),
        }
        return show_cached(request, "blog", context, Visit(here, tenant.pk if tenant else None))


class BlogPost(PublicPage):
    def get(self, request: HttpRequest, slug: str, tenant_slug: str | None = None) -> HttpResponse:
        post = blogs.find_published(slug, tenant_slug, timezone.now())
        here = blogs.page_path(post)
        context = {
            "post": post,
            "body": blog_html.render(post.body),
            "back": reverse("tenant-blog", args=[tenant_slug]) if tenant_slug else reverse("blog"),
            "canonical": f"{settings.PUBLIC_BASE_URL}{here}",
        }
        return show_cached(request, "blog_post", context, Visit(here, post.tenant_id))


routes = [
    path("blog", BlogList.as_view(), name="blog"),
    path("blog/<slug:slug>", BlogPost.as_view(), name="blog-post"),
    path("blog/<slug:tenant_slug>/", BlogList.as_view(), name="tenant-blog"),
    path("blog/<slug:tenant_slug>/<slug:slug>", BlogPost.as_view(), name="tenant-blog-post"),
]
