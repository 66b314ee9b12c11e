"""What several tables share: times, soft delete, and the context that a history row keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.utils import timezone
from simple_history.models import HistoricalRecords
from simple_history.signals import pre_create_historical_record

from external_apis import changes, request_context


class Timestamped(models.Model):
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class SoftDeleted(models.Model):
    """A row with ``deleted_at`` is gone for everybody but the admin's restore."""

    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    @property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None


class Authored(models.Model):
    """Who made and who last changed a row, as `request_context.RequestContext.actor` names them."""

    created_by = models.CharField(max_length=200, null=True, blank=True, editable=False)
    updated_by = models.CharField(max_length=200, null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        actor = request_context.current().actor or None
        if self._state.adding:
            self.created_by = self.created_by or actor
        self.updated_by = actor or self.updated_by
        if (update_fields := kwargs.get("update_fields")) is not None:
            kwargs["update_fields"] = {*update_fields, "updated_by", "updated_at"}
        super().save(*args, **kwargs)


class Announced(models.Model):
    """A row that processes keep opened in memory: that it was saved or deleted is announced (see `changes`)."""

    class Meta:
        abstract = True

    def changed_names(self) -> tuple[str, ...]:
        """Return what the row is kept under: ids, or a slug."""
        raise NotImplementedError


class HistoryContext(models.Model):
    """Columns of a history row beside the library's own: from which request, by which key or command."""

    actor = models.CharField(max_length=200, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)

    class Meta:
        abstract = True


class History(HistoricalRecords):
    """Change history of a model with the acting user and the request (see `HistoryContext`).

    A model with secrets leaves out `secret_bearing.SECRET_COLUMNS`: its history shows keyed fingerprints only.
    """

    def __init__(self, *, excluded_fields: Sequence[str] = ()) -> None:
        super().__init__(bases=[HistoryContext], get_user=_acting_user, excluded_fields=list(excluded_fields))


def _acting_user(**kwargs: Any) -> Any:
    user_id = request_context.current().user_id
    return None if user_id is None else get_user_model()._default_manager.filter(pk=user_id).first()


@receiver(pre_create_historical_record)
def _keep_context(sender: Any, history_instance: Any, **kwargs: Any) -> None:
    if isinstance(history_instance, HistoryContext):
        context = request_context.current()
        history_instance.actor = context.actor
        history_instance.request_id = context.request_id
        history_instance.address = context.address


@receiver((post_save, post_delete))
def _announce(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    if isinstance(instance, Announced):
        changes.announce(instance.changed_names(), using)
