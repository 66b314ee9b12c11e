"""A project as the documentation of Django REST framework and djangorestframework-api-key builds one."""

from __future__ import annotations

import os
import secrets

import environ

SECRET_KEY = secrets.token_hex(32)
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.bench.rival.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "rest_framework",
    "rest_framework_api_key",
    "tests.bench.rival.apps.Rival",
]
# What `startproject` puts there.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
_database = environ.Env.db_url_config(os.environ["DATABASE_URL"])
# As ours: its default, a new connection for each request, would cost it more.
_database["OPTIONS"] = {**_database.get("OPTIONS", {}), "pool": {"min_size": 0, "max_size": 8}}
DATABASES = {"default": {**_database, "CONN_HEALTH_CHECKS": True}}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["REDIS_URL"]},
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework_api_key.permissions.HasAPIKey"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_THROTTLE_RATES": {"key": "1000000/hour"},
    "UNAUTHENTICATED_USER": None,
}
