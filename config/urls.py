"""Every route of the product."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from external_apis import error_answers
from external_apis.admin.own_password import change_own_password
from external_apis.admin_api.frame import UnknownEndpoint
from external_apis.health import healthz

_backoffice = [
    path("api/external/", include("external_apis.backoffice.urls")),
    path("api/external/", include("connections.api.backoffice_urls")),
    path("", include("external_apis.backoffice.page_urls")),
]

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("", include("external_apis.management_api.urls")),
    path("api/external/", include("external_apis.admin_api.urls")),
    path("api/external/", include("connections.api.external_urls")),
    path("", include("connections.api.urls")),
    path("", include("connections.service_api.urls")),
    *(_backoffice if settings.BACKOFFICE_ENABLED else ()),
    re_path(r"^api/external(?:/.*)?$", UnknownEndpoint.as_view()),
    # The admin below would answer an unknown path of the API with its log-in page.
    re_path(r"^admin/external-apis(?:/.*)?$", error_answers.unknown_route),
    path("admin/password_change/", admin.site.admin_view(change_own_password)),
    path("admin/", include("external_apis.sign_on.urls")),
    path("admin/", admin.site.urls),
]

handler400 = error_answers.bad_request
handler403 = error_answers.permission_denied
handler404 = error_answers.page_not_found
handler500 = error_answers.server_error
