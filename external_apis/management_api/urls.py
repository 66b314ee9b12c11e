"""Routes of the management REST on this floor."""

from __future__ import annotations

from django.urls import path

from external_apis.management_api.views import ProviderList, ProviderPage

urlpatterns = [
    path("admin/external-apis", ProviderList.as_view(), name="external-apis"),
    path("admin/external-apis/<str:reference>", ProviderPage.as_view(), name="external-api"),
]
