"""``manage.py setup``: what a migrated database needs before it is served; repeat it at will."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import IntegrityError, transaction

from config import first_login
from connections.seeding import seed_sandbox
from external_apis import audit, catalogue, request_context
from external_apis.key_registry import register_writing_key

FIRST_USER = "admin"


class Command(BaseCommand):
    help = "Record the writing encryption key, make the first superuser, fill the catalogue, seed the sandbox."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("check_encryption_keys")
        with request_context.acting("command:setup"):
            register_writing_key()
            self.make_first_superuser()
            catalogue.seed()
            if settings.SANDBOX:
                seed_sandbox(settings.SANDBOX_URL)

    def make_first_superuser(self) -> None:
        """Make ``admin`` with ADMIN_PASSWORD where nobody may sign in yet; the secret itself is never printed."""
        users = get_user_model()._default_manager
        if users.filter(is_superuser=True).exists():
            return
        if not settings.ADMIN_PASSWORD:
            self.stdout.write("Nobody can sign in yet: set ADMIN_PASSWORD, or run manage.py createsuperuser.")
            return
        if settings.EMBEDDED:
            # Before the user: a start that breaks off here is repeated, and nobody is locked out.
            path = first_login.write(FIRST_USER)
            self.stdout.write(f"The first log-in and API keys are in {path} (only you can read it).")
        name_field = get_user_model().USERNAME_FIELD
        try:
            with transaction.atomic():
                user = users.create_superuser(
                    **{name_field: FIRST_USER, "email": "", "password": settings.ADMIN_PASSWORD}
                )
                audit.record("user.created", user, audit.changed_fields(user))
        except IntegrityError:
            self.stdout.write(f"A user {FIRST_USER!r} who is no superuser exists: run manage.py createsuperuser.")
