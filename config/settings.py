"""Settings, all of them from the environment; a missing or malformed one is an error that names the variable.

Every variable may also be given as ``NAME_FILE``, the path of a file that holds the value. With neither
``DATABASE_URL`` nor ``REDIS_URL`` set the product runs embedded: `config.runtime` answers for both and for the secrets.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping

from config import logs, runtime

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()

VAR_DIR = runtime.var_dir(env.ENVIRON)
PORT = env.int("PORT", default=8000)
DEBUG = env.bool("DEBUG", default=False)

EMBEDDED = runtime.is_embedded(env.ENVIRON)
if EMBEDDED:
    # Beside os.environ and not in it: child processes would inherit the secrets, and no longer see themselves embedded.
    env.ENVIRON = FileAwareMapping(runtime.overlay(os.environ, VAR_DIR))


def _required(name: str) -> str:
    value: str = env.str(name, default="").strip()
    if not value:
        raise ImproperlyConfigured(f"Set the environment variable {name} (or {name}_FILE).")
    return value


# --- what the product is told -------------------------------------------------------------------------------------

SECRET_KEY = _required("SECRET_KEY")
ENCRYPTION_KEYS = _required("ENCRYPTION_KEYS")
# A process that meets a newer key reads the file again.
ENCRYPTION_KEYS_FILE = os.environ.get("ENCRYPTION_KEYS_FILE", "")
BACKUP_KEYS_FILE = env.str("BACKUP_KEYS_FILE", default=str(VAR_DIR / "backup-keys.json"))
JWT_SECRET = _required("JWT_SECRET")
ADMIN_API_KEY = env.str("ADMIN_API_KEY", default="").strip()
ADMIN_PASSWORD = env.str("ADMIN_PASSWORD", default="")

PUBLIC_BASE_URL = env.str("PUBLIC_BASE_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
_public = urlsplit(PUBLIC_BASE_URL)
if _public.scheme not in ("http", "https") or not _public.hostname or _public.query or _public.fragment:
    raise ImproperlyConfigured(
        "PUBLIC_BASE_URL is an http or https URL without query, such as https://apis.example.com"
    )
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[_public.hostname, "127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"]

EGRESS_ALLOW = [entry.strip() for entry in env.list("EGRESS_ALLOW", default=[]) if entry.strip()]
EGRESS_PROXY = env.str("EGRESS_PROXY", default="")
EGRESS_CA_FILE = env.str("EGRESS_CA_FILE", default="")

# The strict fake provider of connections/sandbox; `manage.py up` starts it one port above the web's.
SANDBOX = env.bool("SANDBOX", default=EMBEDDED)
SANDBOX_URL = env.str("SANDBOX_URL", default=f"http://127.0.0.1:{PORT + 1}")
if SANDBOX:
    EGRESS_ALLOW.append(urlsplit(SANDBOX_URL).netloc)

WEB_WORKERS = env.int("WEB_WORKERS", default=1)
# A thread waits while its upstream does, and holds no database connection meanwhile: more threads than connections.
WEB_THREADS = env.int("WEB_THREADS", default=16)
WORKER_CONCURRENCY = env.int("WORKER_CONCURRENCY", default=2)

MAX_BODY_BYTES = env.int("MAX_BODY_BYTES", default=2_621_440)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# --- Django -------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "simple_history",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "config",
    "external_apis",
    "connections",
]

MIDDLEWARE = [
    "external_apis.request_context.RequestContextMiddleware",
    "external_apis.unread_bodies.UnreadBodyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "external_apis.hostile_input.HostileInputMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "external_apis.request_context.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

_database = env.db_url_config(_required("DATABASE_URL"))
if _database["ENGINE"] != "django.db.backends.postgresql":
    raise ImproperlyConfigured("DATABASE_URL names a PostgreSQL database: postgresql://user:password@host:5432/name")
DATABASE_POOL_SIZE = env.int("DATABASE_POOL_SIZE", default=8)
_database.setdefault("OPTIONS", {})["connect_timeout"] = 5
if DATABASE_POOL_SIZE:
    # Connections are borrowed for a query's time and go back before an upstream is called (see connections.client).
    # A database that is away fails a request after 5 s, and is tried anew as soon as requests come again.
    _database["OPTIONS"]["pool"] = {
        "min_size": 0,
        "max_size": DATABASE_POOL_SIZE,
        "timeout": 5,
        "reconnect_timeout": 5,
    }
    _database["CONN_HEALTH_CHECKS"] = True
DATABASES = {"default": {**_database, "ATOMIC_REQUESTS": False, "CONN_MAX_AGE": 0}}
# The owner of the tables; `manage.py migrate` connects as this role. The role of DATABASE_URL may do with less.
MIGRATE_DATABASE_URL = env.str("MIGRATE_DATABASE_URL", default="") or env.str("DATABASE_URL")

REDIS_URL = _required("REDIS_URL")

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
CSRF_FAILURE_VIEW = "external_apis.error_answers.csrf_failure"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = False

STATIC_URL = "/static/"
# From a checkout the files are served where they lie; an image collects them when it is built.
STATIC_ROOT = env.str("STATIC_ROOT", default="" if EMBEDDED else str(BASE_DIR / "staticfiles")) or None
WHITENOISE_USE_FINDERS = DEBUG or STATIC_ROOT is None or not Path(STATIC_ROOT).is_dir()
WHITENOISE_AUTOREFRESH = DEBUG

_https = _public.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_NAME = "external_apis_session"
CSRF_COOKIE_NAME = "external_apis_csrf"
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=_https)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("TRUST_PROXY_HEADERS", default=False) else None
)
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000 if _https else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DEFAULT_EXCEPTION_REPORTER_FILTER = "external_apis.error_reports.SecretSafeFilter"

LOGGING_CONFIG = "config.logs.configure"
LOGGING = logs.configuration(level=env.str("LOG_LEVEL", default="INFO"), as_json=not sys.stderr.isatty())

# --- Celery (read by config.celery under the CELERY_ namespace) ---------------------------------------------------

CELERY_BROKER_URL = runtime.celery_url(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_TIME_LIMIT = 300
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "roll-up-usage": {"task": "connections.roll_up_usage", "schedule": 10.0, "options": {"expires": 10}},
}

# --- libraries ----------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "External API Manager",
    "DESCRIPTION": "Provider definitions, connections and credentials: stored encrypted, used by name.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
UNFOLD = {
    "SITE_TITLE": "External API Manager",
    "SITE_HEADER": "External API Manager",
    "SITE_SYMBOL": "key",
    "SHOW_HISTORY": True,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}external_apis/favicon.svg"},
    ],
    "SIDEBAR": {"navigation": "connections.admin.navigation.navigation"},
}
