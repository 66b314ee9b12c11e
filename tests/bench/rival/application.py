"""The list of connections in plain Django REST framework, with keys and limits as its libraries have them."""

from __future__ import annotations

from typing import Any

from rest_framework import generics, pagination, serializers, throttling

from tests.bench.rival.models import Connection


class KeyThrottle(throttling.SimpleRateThrottle):
    scope = "key"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"throttle:{request.headers['Authorization'][:20]}"


class Pages(pagination.PageNumberPagination):
    page_size = 20
    page_size_query_param = "perPage"


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    expires_at = serializers.DateTimeField(source="credential.expires_at", read_only=True)

    class Meta:
        model = Connection
        exclude = ("deleted_at",)


class ConnectionList(generics.ListAPIView[Connection]):
    queryset = Connection._default_manager.filter(deleted_at=None).select_related("credential").order_by("-id")
    serializer_class = ConnectionSerializer
    pagination_class = Pages
    throttle_classes = (KeyThrottle,)
