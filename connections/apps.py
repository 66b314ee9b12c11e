"""The upper floor as a Django app."""

from django.apps import AppConfig, apps
from django.core.checks import register
from django.utils.module_loading import autodiscover_modules


class ConnectionsConfig(AppConfig):
    name = "connections"
    verbose_name = "Connections"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Models are there only now.
        from connections.oauth import notices, overdue, spool_folder  # noqa: PLC0415
        from connections.webhooks.outbound import fan_out  # noqa: PLC0415
        from external_apis import health, outbox  # noqa: PLC0415

        register(spool_folder.check_folder)
        health.add_upkeep("renewals", overdue.look)
        health.add_upkeep("spool", spool_folder.look)
        health.add_upkeep("notices", notices.look)
        outbox.written.connect(fan_out.wake_worker)
        if apps.is_installed("external_apis.backoffice"):
            from connections import backoffice_sources  # noqa: PLC0415

            backoffice_sources.register()
        # Handlers of webhooks and workflows register themselves; our own workflows are recipes.
        autodiscover_modules("webhook_handlers", "workflows", "recipes")
