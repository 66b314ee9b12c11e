"""``manage.py createsuperuser``, recorded in the audit log."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.db import transaction

from external_apis import audit, request_context


class Command(createsuperuser.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with request_context.acting("command:createsuperuser"), transaction.atomic():
            newest = self.UserModel._default_manager.order_by("-pk").values_list("pk", flat=True).first()
            super().handle(*args, **options)
            for user in self.UserModel._default_manager.filter(pk__gt=newest or 0):
                audit.record(f"{user._meta.model_name}.created", user, audit.changed_fields(user))
