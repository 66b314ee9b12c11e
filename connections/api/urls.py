"""Routes of the management REST on this floor."""

from __future__ import annotations

from django.urls import path

from connections.api.connect_links import ConnectLinkList, ConnectLinkPage
from connections.api.connect_page import ConnectPage, DonePage
from connections.api.views import ConnectionList, ConnectionPage, ConnectionRefresh, ConnectionTest

_CONNECTIONS = "admin/external-apis/<str:reference>/connections"

_LINKS = "admin/external-apis/<str:reference>/connect-links"

urlpatterns = [
    path(_CONNECTIONS, ConnectionList.as_view(), name="connections"),
    path(f"{_CONNECTIONS}/<str:connection_reference>", ConnectionPage.as_view(), name="connection"),
    path(f"{_CONNECTIONS}/<str:connection_reference>/refresh", ConnectionRefresh.as_view(), name="connection-refresh"),
    path(f"{_CONNECTIONS}/<str:connection_reference>/test", ConnectionTest.as_view(), name="connection-test"),
    path(_LINKS, ConnectLinkList.as_view(), name="connect-links"),
    path(f"{_LINKS}/<str:link_id>", ConnectLinkPage.as_view(), name="connect-link"),
    path("connect/<str:token>", ConnectPage.as_view(), name="connect"),
    path("connect/done/<str:token>", DonePage.as_view(), name="connect-done"),
]
