"""Ready provider definitions without credentials, from which a provider is made."""

from __future__ import annotations

from django.db import models

from external_apis.models.base import Timestamped
from external_apis.models.providers import Category


class CatalogueEntry(Timestamped):
    slug = models.SlugField(primary_key=True, max_length=100)
    name = models.CharField(max_length=200)
    category = models.CharField(max_length=20, choices=Category.choices)
    provider = models.CharField(max_length=100)
    api_config = models.JSONField(default=dict)
    docs_url = models.URLField(max_length=500, blank=True)

    class Meta:
        verbose_name_plural = "catalogue entries"
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.name
