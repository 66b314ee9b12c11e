"""The browsers that users are signed in with."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.utils import timezone

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Account, Tenant


class UserSession(models.Model):
    """A session of Django's under an id of our own: ``session_key`` signs in whoever has it and is never shown.

    Of the browser only what it calls itself is kept, shortened; its address stands in the audit log alone.
    ``last_seen_at`` lags by up to five minutes; ``expires_at`` is no earlier than the session's own end, and
    up to five minutes later.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "ses"), editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="sessions")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    session_key = models.CharField(max_length=100, unique=True)
    user_agent = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = "session"
        ordering = ("-id",)
        indexes = (models.Index(fields=["account", "-id"], name="user_session_by_account"),)

    def __str__(self) -> str:
        return self.user_agent or self.id
