"""The upper floor as a Django app."""

from django.apps import AppConfig


class ConnectionsConfig(AppConfig):
    name = "connections"
    verbose_name = "Connections"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Models are there only now.
        from connections.oauth import overdue  # noqa: PLC0415
        from external_apis import health  # noqa: PLC0415

        health.add_upkeep("renewals", overdue.look)
