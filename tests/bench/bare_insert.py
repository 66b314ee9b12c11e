"""What receiving webhooks is measured against: a Django view that inserts one row with the body, and nothing else."""

from __future__ import annotations

import os

import environ
from django.conf import settings
from django.core.wsgi import get_wsgi_application

_database = environ.Env.db_url_config(os.environ["DATABASE_URL"])
# Kinder than its default of a new connection for each request.
_database["OPTIONS"] = {**_database.get("OPTIONS", {}), "pool": {"min_size": 0, "max_size": 8}}
_database["CONN_HEALTH_CHECKS"] = True
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": _database},
    DEBUG=False,
    INSTALLED_APPS=[],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # it tells the length
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the bench",
    USE_TZ=True,
)
application = get_wsgi_application()

from django.db import models  # noqa: E402 (there is no registry of apps before)
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


class Row(models.Model):
    body = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "bench"
        db_table = "bench_row"

    def __str__(self) -> str:
        return str(self.pk)


def insert(request: HttpRequest) -> HttpResponse:
    Row._default_manager.create(body=request.body.decode())
    return HttpResponse()


urlpatterns = [path("insert", insert)]
