"""Django's view of the project itself."""

from __future__ import annotations

from django.apps import AppConfig

from config import loading


class ProjectConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        # Only now can settings be read: web processes and commands publish tasks as well.
        import config.broker  # noqa: F401, PLC0415

        loading.end()
