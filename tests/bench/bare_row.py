"""What reading credentials is measured against: a Django REST framework view that reads one row, and nothing else."""

from __future__ import annotations

import os

import environ
from django.conf import settings
from django.core.wsgi import get_wsgi_application

_database = environ.Env.db_url_config(os.environ["DATABASE_URL"])
# Kinder than its default of a new connection for each request.
_database["OPTIONS"] = {**_database.get("OPTIONS", {}), "pool": {"min_size": 0, "max_size": 8}}
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": _database},
    DEBUG=False,
    INSTALLED_APPS=["rest_framework", "tests.bench.rival.apps.Rival"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # it tells the length
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the bench",
    USE_TZ=True,
)
application = get_wsgi_application()

from django.urls import path  # noqa: E402 (there is no registry of apps before)
from rest_framework import generics, serializers  # noqa: E402

from tests.bench.rival.models import Connection  # noqa: E402


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    class Meta:
        model = Connection
        exclude = ("deleted_at",)


class OneConnection(generics.RetrieveAPIView[Connection]):
    queryset = Connection._default_manager.all()
    serializer_class = ConnectionSerializer


urlpatterns = [path("connections/<str:pk>", OneConnection.as_view())]
