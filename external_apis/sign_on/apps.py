"""Sign-on as a Django app of its own: a project that brings its own log-in leaves it out."""

from __future__ import annotations

from django.apps import AppConfig


class SignOnConfig(AppConfig):
    name = "external_apis.sign_on"
    label = "external_apis_sign_on"

    def ready(self) -> None:
        # Models are there only now.
        from external_apis.sign_on.events import listen  # noqa: PLC0415

        listen()
