"""Blog posts: Markdown, seen by everybody once they are published."""

from __future__ import annotations

from functools import partial

from django.db import models

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant
from external_apis.models.base import Authored, Timestamped


class BlogStatus(models.TextChoices):
    DRAFT = "draft"
    PUBLISHED = "published"


class Blog(Authored, Timestamped):
    """A tenant's post, or one of the whole installation; a slug is used once by each of them."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "blog"), editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="blogs", db_index=False
    )
    slug = models.SlugField(max_length=100)
    title = models.CharField(max_length=200)
    excerpt = models.CharField(max_length=500, blank=True, default="")
    body = models.TextField(blank=True, default="")
    """Markdown (CommonMark, with tables and strikethrough)."""
    author = models.CharField(max_length=100, blank=True, default="")
    """As readers see it."""
    status = models.CharField(max_length=16, choices=BlogStatus.choices, default=BlogStatus.DRAFT)
    published_at = models.DateTimeField(null=True, blank=True)
    """From when on a published post is seen; may lie ahead."""

    class Meta:
        ordering = ("-id",)
        verbose_name = "blog post"
        constraints = (
            models.UniqueConstraint(fields=["tenant", "slug"], name="blog_slug_unique", nulls_distinct=False),
        )
        indexes = (
            models.Index(fields=["tenant", "-id"], name="blog_of_tenant"),
            models.Index(
                fields=["tenant", "-published_at"], name="blog_on_page", condition=models.Q(status="published")
            ),
        )

    def __str__(self) -> str:
        return self.title
