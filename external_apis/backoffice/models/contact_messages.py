"""What strangers write through the contact form. The address that they write from is stored nowhere."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.utils import timezone

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant


class ContactMessage(models.Model):
    """To a tenant, or to whoever runs the installation."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "msg"), editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, related_name="contact_messages", db_index=False
    )
    name = models.CharField(max_length=100)
    email = models.CharField(max_length=254)
    subject = models.CharField(max_length=200, blank=True, default="")
    message = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=["tenant", "-id"], name="contact_of_tenant"),)

    def __str__(self) -> str:
        return f"{self.name}: {self.subject}" if self.subject else self.name
