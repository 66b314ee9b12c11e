"""The backoffice as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class BackofficeConfig(AppConfig):
    name = "external_apis.backoffice"
    label = "backoffice"
    verbose_name = "Backoffice"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Models are there only now.
        from external_apis.backoffice import plans, sessions  # noqa: PLC0415

        plans.listen()
        sessions.listen()
