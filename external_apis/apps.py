"""The ground floor as a Django app."""

from django.apps import AppConfig


class ExternalApisConfig(AppConfig):
    name = "external_apis"
    verbose_name = "External APIs"
