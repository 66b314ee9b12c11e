"""Routes of the management REST on this floor."""

from __future__ import annotations

from django.urls import path

from connections.api.views import ConnectionList, ConnectionPage, ConnectionTest

_CONNECTIONS = "admin/external-apis/<str:reference>/connections"

urlpatterns = [
    path(_CONNECTIONS, ConnectionList.as_view(), name="connections"),
    path(f"{_CONNECTIONS}/<str:connection_reference>", ConnectionPage.as_view(), name="connection"),
    path(f"{_CONNECTIONS}/<str:connection_reference>/test", ConnectionTest.as_view(), name="connection-test"),
]
