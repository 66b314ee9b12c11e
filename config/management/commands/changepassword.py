"""``manage.py changepassword``, recorded in the audit log."""

from __future__ import annotations

import getpass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.management.commands import changepassword
from django.db import transaction

from external_apis import audit, request_context


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        with request_context.acting("command:changepassword"), transaction.atomic():
            message: str | None = super().handle(*args, **options)
            name = options["username"] or getpass.getuser()
            user = get_user_model()._default_manager.get_by_natural_key(name)
            audit.record(f"{user._meta.model_name}.password_changed", user)
            return message
