"""The blog of the installation and of each tenant: ``/blog`` and ``/blog/{tenant}/``, a post below them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.views.generic import RedirectView

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
            "has_blog": True,
            "page": page,
            "posts": [(post, blogs.page_path(post)) for post in page.object_list],
            "canonical": f"{settings.PUBLIC_BASE_URL}{here}" + (f"?page={page.number}" if page.number > 1 else ""),
        }
        return show_cached(request, "blog", context, Visit(here, tenant.pk if tenant else None))


class BlogPost(PublicPage):
    """A post; a tenant's blog without the stroke behind it, where no post of the installation has its name."""

    def get(self, request: HttpRequest, slug: str, tenant_slug: str | None = None) -> HttpResponse:
        now = timezone.now()
        try:
            post = blogs.find_published(slug, tenant_slug, now)
        except NotFound:
            if tenant_slug is None and blogs.published_blogs(slug, now).exists():
                # Asked for again each time: a post may get the name.
                headers = {"Cache-Control": "no-cache"}
                return HttpResponsePermanentRedirect(reverse("tenant-blog", args=[slug]), headers=headers)
            raise
        here = blogs.page_path(post)
        context = {
            "post": post,
            "tenant": post.tenant,
            "has_blog": True,
            "body": blog_html.render(post.body),
            "back": reverse("tenant-blog", args=[tenant_slug]) if tenant_slug else reverse("blog"),
            "canonical": f"{settings.PUBLIC_BASE_URL}{here}",
        }
        return show_cached(request, "blog_post", context, Visit(here, post.tenant_id))


routes = [
    path("blog", BlogList.as_view(), name="blog"),
    path("blog/", RedirectView.as_view(pattern_name="blog", permanent=True, query_string=True)),
    path("blog/<slug:slug>", BlogPost.as_view(), name="blog-post"),
    path("blog/<slug:tenant_slug>/", BlogList.as_view(), name="tenant-blog"),
    path("blog/<slug:tenant_slug>/<slug:slug>", BlogPost.as_view(), name="tenant-blog-post"),
]
