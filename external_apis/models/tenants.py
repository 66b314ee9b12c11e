"""Tenants (the seed's sales channels) and partners: whose a provider or connection is."""

from __future__ import annotations

from functools import partial

from django.db import models

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models.base import Announced, Timestamped


class Tenant(Announced, Timestamped):
    """An isolated customer of the company: the seed's sales channel."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "ten"), editable=False)
    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True, db_default=True)

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.name

    def changed_names(self) -> tuple[str, ...]:
        return (self.pk,)


class Partner(Timestamped):
    """A partner with configurations of its own, within a tenant or beside all of them."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "ptn"), editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="partners")
    slug = models.SlugField(max_length=100)
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ("slug",)
        constraints = (
            models.UniqueConstraint(fields=["tenant", "slug"], name="partner_slug_unique", nulls_distinct=False),
        )

    def __str__(self) -> str:
        return self.name
