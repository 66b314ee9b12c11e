"""Routes of the gateway."""

from __future__ import annotations

from django.urls import re_path

from connections.gateway.views import proxy

urlpatterns = [
    re_path(r"^api/external/proxy/(?P<connection_id>[^/]+)(?P<path>(?s:/.*)?)$", proxy, name="proxy"),
]
