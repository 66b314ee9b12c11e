"""The rival's one route."""

from __future__ import annotations

from django.urls import path

from tests.bench.rival.application import ConnectionList

urlpatterns = [path("connections", ConnectionList.as_view())]
