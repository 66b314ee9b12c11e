"""Routes of ``/exsvc``."""

from __future__ import annotations

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from connections.service_api.frame import UnknownService
from connections.service_api.schema import DOCUMENT
from connections.service_api.views import DebugAuth, ServiceCredentialsPage, ServiceList, ServicePage

_SERVICES = "exsvc/api/v1/services"

api_patterns = [
    path(_SERVICES, ServiceList.as_view(), name="services"),
    path(f"{_SERVICES}/<str:service_id>", ServicePage.as_view(), name="service"),
    path(f"{_SERVICES}/<str:service_id>/credentials", ServiceCredentialsPage.as_view(), name="service-credentials"),
    path("exsvc/debug/auth", DebugAuth.as_view(), name="service-debug-auth"),
]

urlpatterns = [
    *api_patterns,
    path(
        "exsvc/schema",
        SpectacularAPIView.as_view(patterns=api_patterns, custom_settings=DOCUMENT),
        name="service-schema",
    ),
    path("exsvc/docs", SpectacularSwaggerSplitView.as_view(url_name="service-schema"), name="service-docs"),
    re_path(r"^exsvc(?:/.*)?$", UnknownService.as_view()),
]
