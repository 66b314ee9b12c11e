"""Routes of the management REST on this floor."""

from __future__ import annotations

from django.urls import path

from connections.api.connect_links import ConnectLinkList, ConnectLinkPage
from connections.api.connect_page import ConnectPage, DonePage
from connections.api.metrics import metrics
from connections.api.oauth import Authorize, Callback, ConnectionRevoke, Result
from connections.api.views import ConnectionList, ConnectionPage, ConnectionRefresh, ConnectionTest
from connections.api.webhook_receipts import receipt

_CONNECTIONS = "admin/external-apis/<str:reference>/connections"

_LINKS = "admin/external-apis/<str:reference>/connect-links"

urlpatterns = [
    path("metrics", metrics, name="metrics"),
    path(_CONNECTIONS, ConnectionList.as_view(), name="connections"),
    path(f"{_CONNECTIONS}/<str:connection_reference>", ConnectionPage.as_view(), name="connection"),
    path(f"{_CONNECTIONS}/<str:connection_reference>/refresh", ConnectionRefresh.as_view(), name="connection-refresh"),
    path(f"{_CONNECTIONS}/<str:connection_reference>/test", ConnectionTest.as_view(), name="connection-test"),
    path(f"{_CONNECTIONS}/<str:connection_reference>/revoke", ConnectionRevoke.as_view(), name="connection-revoke"),
    path("admin/external-apis/<str:reference>/oauth/authorize", Authorize.as_view(), name="oauth-authorize"),
    path("admin/external-apis/<str:reference>/oauth/callback", Callback.as_view(), name="oauth-callback"),
    path("admin/external-apis/<str:reference>/oauth/attempts/<str:flow_id>", Result.as_view(), name="oauth-result"),
    path("api/admin/oauth/<str:reference>/callback", Callback.as_view(), name="oauth-callback-by-slug"),
    path(_LINKS, ConnectLinkList.as_view(), name="connect-links"),
    path(f"{_LINKS}/<str:link_id>", ConnectLinkPage.as_view(), name="connect-link"),
    path("api/webhooks/<str:slug>", receipt, name="webhooks"),
    path("api/webhooks/<str:slug>/<str:api_id>", receipt, name="webhooks-of-provider"),
    path("connect/<str:token>", ConnectPage.as_view(), name="connect"),
    path("connect/done/<str:token>", DonePage.as_view(), name="connect-done"),
]
