"""What the gateway is measured against: a Django view that passes a request on through a pooled session of requests."""

from __future__ import annotations

import os

import requests
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from requests.adapters import HTTPAdapter

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=[], SECRET_KEY="of the bench", DEBUG=False)

session = requests.Session()
session.mount("http://", HTTPAdapter(pool_connections=16, pool_maxsize=64))
session.headers["Authorization"] = "Bearer token-of-the-bench"
upstream = os.environ["BENCH_UPSTREAM"]


def proxy(request: HttpRequest, tail: str) -> HttpResponse:
    answer = session.request(request.method or "GET", f"{upstream}/{tail}", params=request.META["QUERY_STRING"])
    headers = {"Content-Length": str(len(answer.content)), "Content-Type": answer.headers["Content-Type"]}
    return HttpResponse(answer.content, status=answer.status_code, headers=headers)


urlpatterns = [path("proxy/<path:tail>", proxy)]
application = get_wsgi_application()
