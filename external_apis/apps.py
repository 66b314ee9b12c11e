"""The ground floor as a Django app."""

from django.apps import AppConfig
from django.core.checks import Tags, register

from external_apis.project_settings import check_settings, fill_in_defaults


class ExternalApisConfig(AppConfig):
    name = "external_apis"
    verbose_name = "External APIs"
    # A project of its own may have another DEFAULT_AUTO_FIELD than the migrations were made with.
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        # Before any app is ready: the admin's reads pages, and with them settings.
        fill_in_defaults()
        super().import_models()

    def ready(self) -> None:
        register(check_settings)
        # Models are there only now.
        from external_apis import user_accounts  # noqa: PLC0415
        from external_apis.provider_checks import check_providers  # noqa: PLC0415

        register(check_providers, Tags.database)
        user_accounts.listen()
