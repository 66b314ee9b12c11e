"""Events of the audit log for pages that Django's admin stores by itself, without a service of ours."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.http import HttpRequest, HttpResponse

from external_apis import audit

__all__ = ["AuditedAdmin", "recording_password"]


class AuditedAdmin:
    """Goes before a ``ModelAdmin``. Actions are named after the model: ``tenant.created``, ``user.updated``.

    Django stores a form in one transaction, in two steps: the row, then what refers to it.
    """

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.row_before = type(obj)._base_manager.filter(pk=obj.pk).first() if change else None
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        row = form.instance
        before = _relations(row, form)
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        after = _relations(row, form)
        facts = audit.changed_fields(row, form.row_before)
        facts |= {name: [before[name], after[name]] for name in after if before[name] != after[name]}
        audit.record(f"{row._meta.model_name}.{'updated' if change else 'created'}", row, facts)

    def response_action(self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any) -> HttpResponse | None:
        """Django runs an action outside of any transaction: what it notes itself would stay."""
        with transaction.atomic():
            response: HttpResponse | None = super().response_action(request, queryset, *args, **kwargs)  # type: ignore[misc]
        return response

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            _record_deletion(obj)
            super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                _record_deletion(row)
            super().delete_queryset(request, queryset)  # type: ignore[misc]


def recording_password(form: type[Any]) -> type[Any]:
    """Return a form that changes a password, made to record that it did. Of the password nothing is told."""

    class RecordingForm(form):
        def save(self, commit: bool = True) -> Any:
            with transaction.atomic():
                user = super().save(commit)
                audit.record(f"{user._meta.model_name}.password_changed", user)
            return user

    return RecordingForm


def _relations(row: models.Model, form: Any) -> dict[str, list[str]]:
    """What the form's many-to-many fields hold, as the rows' names."""
    fields = [field for field in row._meta.many_to_many if field.name in form.changed_data]
    return {field.name: sorted(str(other) for other in field.value_from_object(row)) for field in fields}


def _record_deletion(row: models.Model) -> None:
    audit.record(f"{row._meta.model_name}.deleted", row, {"name": [str(row), None]})
