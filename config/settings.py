"""Settings, all of them from the environment; a missing or malformed one is an error that names the variable.

Every variable may also be given as ``NAME_FILE``, the path of a file that holds the value. With neither
``DATABASE_URL`` nor ``REDIS_URL`` set the product runs embedded: `config.runtime` answers for both and for the secrets.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

from config import loading, logs, postgres, runtime
from config.environment import Environment
from external_apis import queues

loading.begin()

BASE_DIR = Path(__file__).resolve().parent.parent

VAR_DIR = runtime.var_dir(os.environ)
EMBEDDED = runtime.is_embedded(os.environ)
# Beside os.environ and not in it: child processes would inherit the secrets, and no longer see themselves embedded.
env = Environment(runtime.overlay(os.environ, VAR_DIR) if EMBEDDED else os.environ)

# --- what the product is told -------------------------------------------------------------------------------------

SECRET_KEY = env.required_secret("SECRET_KEY")
ENCRYPTION_KEYS = env.encryption_keys("ENCRYPTION_KEYS")
# A process that meets a newer key reads the file again.
ENCRYPTION_KEYS_FILE = os.environ.get("ENCRYPTION_KEYS_FILE", "")
BACKUP_KEYS_FILE = env.text("BACKUP_KEYS_FILE", str(VAR_DIR / "backup-keys.json"))
JWT_SECRET = env.jwt_secrets("JWT_SECRET")
ADMIN_API_KEY = env.secret("ADMIN_API_KEY")
ADMIN_API_JWT_TTL = env.number("ADMIN_API_JWT_TTL", 3600, low=1, high=86_400)
ADMIN_API_RATE_LIMIT = env.number("ADMIN_API_RATE_LIMIT", 1000, low=1, high=10_000_000)
ADMIN_PASSWORD = env.secret("ADMIN_PASSWORD")

DEBUG = env.flag("DEBUG", default=False)
PORT = env.number("PORT", 8000, low=1, high=65_000)
PUBLIC_BASE_URL = env.http_url("PUBLIC_BASE_URL", f"http://127.0.0.1:{PORT}")
_public = urlsplit(PUBLIC_BASE_URL)
ALLOWED_HOSTS = env.items("ALLOWED_HOSTS", [str(_public.hostname), "127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"]

EGRESS_ALLOW = env.egress_allowances("EGRESS_ALLOW")
EGRESS_PROXY = env.proxy_url("EGRESS_PROXY")
EGRESS_CA_FILE = env.ca_file("EGRESS_CA_FILE")

# Requests a minute for each tenant, and whose tokens are taken beside our own (seed 002).
SERVICE_API_RATE_LIMIT = env.number("SERVICE_API_RATE_LIMIT", 100, low=1, high=1_000_000)
SERVICE_API_ISSUERS = env.trusted_issuers("SERVICE_API_ISSUERS", f"{PUBLIC_BASE_URL}/exsvc")

# Plans, AI models, affiliates, analytics and content (seed 001); off: no routes and no pages, the tables stay.
BACKOFFICE_ENABLED = env.flag("BACKOFFICE_ENABLED", default=True)
# Counts visits to public pages by day, path and referrer host, without an address or a cookie.
VISIT_COUNTING = env.flag("VISIT_COUNTING", default=False)

# Where connect links may send users back to, and which pages may embed them.
CONNECT_ALLOWED_ORIGINS = env.origins("CONNECT_ALLOWED_ORIGINS")

# The strict fake provider of connections/sandbox; `manage.py up` starts it one port above the web's.
SANDBOX = env.flag("SANDBOX", default=EMBEDDED)
SANDBOX_URL = env.http_url("SANDBOX_URL", f"http://127.0.0.1:{PORT + 1}")
if SANDBOX:
    EGRESS_ALLOW.append(urlsplit(SANDBOX_URL).netloc)

WEB_WORKERS = env.number("WEB_WORKERS", 1, low=1, high=256)
# A thread waits while its upstream does, and holds no database connection meanwhile: more threads than connections.
WEB_THREADS = env.number("WEB_THREADS", 96, low=1, high=1024)
# How many of them may wait for one connection's provider; an eighth of them never waits for any.
GATEWAY_CALLS_PER_CONNECTION = env.number("GATEWAY_CALLS_PER_CONNECTION", 64, low=1, high=1024)
# Of good calls, one in so many is kept (0: none); failed ones all are. Both only up to a number for each connection.
CALL_SAMPLE_ONE_IN = env.number("CALL_SAMPLE_ONE_IN", 100, low=0, high=1_000_000)
CALLS_KEPT = env.number("CALLS_KEPT", 200, low=0, high=10_000)
# How long the figures of calls are kept by minute, hour and day.
METRICS_MINUTES_KEPT_HOURS = env.number("METRICS_MINUTES_KEPT_HOURS", 3, low=1, high=168)
METRICS_HOURS_KEPT_DAYS = env.number("METRICS_HOURS_KEPT_DAYS", 14, low=1, high=366)
METRICS_DAYS_KEPT_DAYS = env.number("METRICS_DAYS_KEPT_DAYS", 400, low=1, high=3660)
# How long webhooks that came in are kept once they are done, and repetitions of them are recognised.
WEBHOOK_EVENTS_KEPT_DAYS = env.number("WEBHOOK_EVENTS_KEPT_DAYS", 30, low=1, high=3660)
# How long deliveries of webhooks to others are kept, with their attempts.
WEBHOOK_DELIVERIES_KEPT_DAYS = env.number("WEBHOOK_DELIVERIES_KEPT_DAYS", 30, low=2, high=3660)
# How long runs of workflows are kept once they have finished, and their idempotency keys are known.
WORKFLOW_RUNS_KEPT_DAYS = env.number("WORKFLOW_RUNS_KEPT_DAYS", 30, low=1, high=3660)
# Turns /metrics on, for whoever sends it as a bearer token.
METRICS_TOKEN = env.secret("METRICS_TOKEN")
if METRICS_TOKEN and len(METRICS_TOKEN) < 16:
    raise ImproperlyConfigured("METRICS_TOKEN has fewer than 16 characters.")
METRICS_BY_CONNECTION = env.flag("METRICS_BY_CONNECTION", default=False)
# How many processes of all workers together handle webhooks that came in, deliver others, and carry workflows on.
INBOUND_SWEEPS = env.number("INBOUND_SWEEPS", 2, low=1, high=64)
DELIVERY_SWEEPS = env.number("DELIVERY_SWEEPS", 2, low=1, high=64)
WORKFLOW_SWEEPS = env.number("WORKFLOW_SWEEPS", 2, low=1, high=64)
# Of the worker that renews tokens and adds up figures, and of the one for those three, which wait for others' code,
# receivers and providers.
WORKER_CONCURRENCY = env.number("WORKER_CONCURRENCY", 2, low=1, high=256)
# A process that waits for a step that hangs has given its place to another.
SLOW_WORKER_CONCURRENCY = env.number(
    "SLOW_WORKER_CONCURRENCY", INBOUND_SWEEPS + DELIVERY_SWEEPS + 2 * WORKFLOW_SWEEPS, low=1, high=256
)

MAX_BODY_BYTES = env.number("MAX_BODY_BYTES", 2_621_440, low=1024, high=1_073_741_824)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# Answers of token endpoints, sealed, until they are in the database: on a disk that outlives the process.
SPOOL_DIR = env.folder("SPOOL_DIR", str(VAR_DIR / "spool"))
# For tests alone: the file that names the point at which a renewal dies or waits (connections.oauth.faults).
FAULT_FILE = env.text("FAULT_FILE") if env.flag("TESTING_FAULTS", default=False) else ""

# Without a server nobody is written to.
vars().update(env.email("EMAIL_URL"))
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", f"external-api-manager@{_public.hostname}")
EMAIL_TIMEOUT = 15
# Who is told of connections that have neither an owner nor a user with an address; unless given, the superusers are.
NOTICES_EMAIL = env.addresses("NOTICES_EMAIL")

# Staff sign-in: by password, and at an OpenID Connect provider.
PASSWORD_LOGIN = env.flag("PASSWORD_LOGIN", default=True)
OIDC_ISSUER = env.issuer("OIDC_ISSUER")
OIDC_CLIENT_ID = env.required("OIDC_CLIENT_ID") if OIDC_ISSUER else ""
OIDC_CLIENT_SECRET = env.secret("OIDC_CLIENT_SECRET")
OIDC_EXTRA_SCOPES = env.items("OIDC_EXTRA_SCOPES")
OIDC_STAFF_CLAIM = env.text("OIDC_STAFF_CLAIM")
OIDC_STAFF_VALUE = env.text("OIDC_STAFF_VALUE", "true")
OIDC_SUPERUSER_VALUE = env.text("OIDC_SUPERUSER_VALUE")
OIDC_TENANT_CLAIM = env.text("OIDC_TENANT_CLAIM")
OIDC_GROUPS_CLAIM = env.text("OIDC_GROUPS_CLAIM")
OIDC_TRUST_EMAIL = env.flag("OIDC_TRUST_EMAIL", default=False)
if not PASSWORD_LOGIN and not OIDC_ISSUER:
    raise ImproperlyConfigured("PASSWORD_LOGIN=false needs OIDC_ISSUER: nobody could sign in.")

# --- Django -------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "config",  # its commands go before those of the same name
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
    "axes",
    "social_django",
    "external_apis",
    "external_apis.sign_on",
    "external_apis.backoffice",
    "connections",
    *env.apps("EXTRA_APPS"),
]

MIDDLEWARE = [
    "external_apis.request_context.RequestContextMiddleware",
    "external_apis.admin_api.traffic.TrafficMiddleware",
    "external_apis.unread_bodies.UnreadBodyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "connections.gateway.shortcut.ShortcutMiddleware",
    "connections.api.webhook_receipts.ReceiptMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "external_apis.hostile_input.HostileInputMiddleware",
    "external_apis.backoffice.visit_middleware.VisitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "external_apis.request_context.ActorMiddleware",
    "external_apis.backoffice.session_middleware.SessionNotesMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
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

_database = env.database("DATABASE_URL")
DATABASE_POOL_SIZE = env.number("DATABASE_POOL_SIZE", 8, low=0, high=1024)
# No request and no task waits longer (config.wsgi, config.celery); a command, such as a backup, takes its time.
DATABASE_STATEMENT_MS = env.number("DATABASE_STATEMENT_MS", 0, low=0, high=3_600_000)
_options = _database.get("OPTIONS", {})
_database["OPTIONS"] = _options | postgres.options(_options.get("options", ""), DATABASE_STATEMENT_MS)
if DATABASE_POOL_SIZE:
    # Connections are borrowed for a query's time and go back before an upstream is called (see connections.client).
    # A database that is away fails a request after 5 s, one that hangs after 12 s (`postgres.BoundedConnection`); it is
    # tried anew as soon as requests come again.
    _database["OPTIONS"]["pool"] = {
        "min_size": 0,
        "max_size": DATABASE_POOL_SIZE,
        "timeout": 5,
        "reconnect_timeout": 5,
    }
    if DATABASE_STATEMENT_MS:
        _database["OPTIONS"]["pool"]["connection_class"] = postgres.bounded(DATABASE_STATEMENT_MS)
    _database["CONN_HEALTH_CHECKS"] = True
DATABASES = {"default": {**_database, "ATOMIC_REQUESTS": False, "CONN_MAX_AGE": 0}}
# The owner of the tables; `manage.py migrate` connects as this role. The role of DATABASE_URL may do with less.
MIGRATE_DATABASE_URL = env.secret("MIGRATE_DATABASE_URL", env.required("DATABASE_URL"))
if env.text("MIGRATE_DATABASE_URL"):
    env.database("MIGRATE_DATABASE_URL")  # a malformed one is named at once, and never printed

REDIS_URL = env.redis_url("REDIS_URL")

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# The first one only counts attempts; sign-on makes its sessions for the second one too.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "external_apis.user_backend.UserBackend"]
CSRF_FAILURE_VIEW = "external_apis.error_answers.csrf_failure"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

# Kept from commands that are run with values of connections (`manage.py exec`).
SECRET_VARIABLES = frozenset(env.secrets)

LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "config.formats"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = False

STATIC_URL = "/static/"
# From a checkout the files are served where they lie; an image collects them when it is built.
STATIC_ROOT = env.folder("STATIC_ROOT", "" if EMBEDDED else str(BASE_DIR / "staticfiles"))
WHITENOISE_USE_FINDERS = DEBUG or STATIC_ROOT is None or not Path(STATIC_ROOT).is_dir()
WHITENOISE_AUTOREFRESH = DEBUG

_https = _public.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_NAME = "external_apis_session"
CSRF_COOKIE_NAME = "external_apis_csrf"
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", default=_https)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
# Of one proxy in front: its X-Forwarded-Proto, and the last address in its X-Forwarded-For.
TRUST_PROXY_HEADERS = env.flag("TRUST_PROXY_HEADERS", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUST_PROXY_HEADERS else None
SECURE_HSTS_SECONDS = env.number("SECURE_HSTS_SECONDS", 31_536_000 if _https else 0, low=0, high=63_072_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DEFAULT_EXCEPTION_REPORTER_FILTER = "external_apis.error_reports.SecretSafeFilter"

LOGGING_CONFIG = "config.logs.configure"
LOGGING = logs.configuration(level=env.log_level("LOG_LEVEL"), as_json=not sys.stderr.isatty())

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
# A worker without `--queues` serves both.
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in queues.QUEUES]
# These wait for somebody else, so they have a worker of their own.
CELERY_TASK_ROUTES = {
    "connections.process_webhook_events": {"queue": "slow"},
    "connections.deliver_webhooks": {"queue": "slow"},
    "connections.run_workflows": {"queue": "slow"},
    "connections.write_back_tokens": {"queue": "slow"},
}
REFRESH_EVERY_SECONDS = env.number("REFRESH_EVERY_SECONDS", 60, low=1, high=3600)
CELERY_BEAT_SCHEDULE = {
    "roll-up-key-uses": {"task": "external_apis.roll_up_key_uses", "schedule": 10.0, "options": {"expires": 10}},
    "tell-of-old-keys": {"task": "external_apis.tell_of_old_keys", "schedule": 3600.0, "options": {"expires": 3600}},
    "open-accounts": {"task": "external_apis.open_accounts", "schedule": 60.0, "options": {"expires": 60}},
    "refresh-due-tokens": {
        "task": "connections.refresh_due_tokens",
        "schedule": REFRESH_EVERY_SECONDS,
        "options": {"expires": 60},
    },
    "write-back-tokens": {"task": "connections.write_back_tokens", "schedule": 10.0, "options": {"expires": 10}},
    "send-notices": {"task": "connections.send_notices", "schedule": 30.0, "options": {"expires": 30}},
    "prune-grant-events": {
        "task": "connections.prune_grant_events",
        "schedule": 86_400.0,
        "options": {"expires": 86_400},
    },
    "purge-idempotent-calls": {
        "task": "connections.purge_idempotent_calls",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "prune-usage": {"task": "connections.prune_usage", "schedule": 600.0, "options": {"expires": 600}},
    "process-webhook-events": {
        "task": "connections.process_webhook_events",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "prune-webhook-events": {
        "task": "connections.prune_webhook_events",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "deliver-webhooks": {"task": "connections.deliver_webhooks", "schedule": 5.0, "options": {"expires": 5}},
    "prune-webhook-deliveries": {
        "task": "connections.prune_webhook_deliveries",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "run-workflows": {"task": "connections.run_workflows", "schedule": 5.0, "options": {"expires": 5}},
    "start-scheduled-workflows": {
        "task": "connections.start_scheduled_workflows",
        "schedule": 20.0,
        "options": {"expires": 20},
    },
    "prune-workflow-runs": {
        "task": "connections.prune_workflow_runs",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "roll-up-usage": {"task": "connections.roll_up_usage", "schedule": 10.0, "options": {"expires": 10}},
    "roll-up-visits": {"task": "backoffice.roll_up_visits", "schedule": 30.0, "options": {"expires": 30}},
    "prune-visits": {"task": "backoffice.prune_visits", "schedule": 86_400.0, "options": {"expires": 86_400}},
    "roll-up-overview": {"task": "backoffice.roll_up_overview", "schedule": 60.0, "options": {"expires": 60}},
    "sample-resources": {"task": "backoffice.sample_resources", "schedule": 60.0, "options": {"expires": 60}},
    "prune-analytics": {"task": "backoffice.prune_analytics", "schedule": 86_400.0, "options": {"expires": 86_400}},
    "roll-up-ai-usage": {"task": "backoffice.roll_up_ai_usage", "schedule": 10.0, "options": {"expires": 10}},
}
if not BACKOFFICE_ENABLED:
    CELERY_BEAT_SCHEDULE = {
        name: entry for name, entry in CELERY_BEAT_SCHEDULE.items() if not str(entry["task"]).startswith("backoffice.")
    }

# --- attempts to log in -------------------------------------------------------------------------------------------

# Five wrong passwords for one name from one address, over all processes: neither does an attacker lock the name out
# elsewhere, nor others out behind the same proxy. The database counts, so that `manage.py axes_reset` can forget.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "external_apis.request_context.peer_address"
AXES_LOCKOUT_TEMPLATE = "locked_out.html"
AXES_DISABLE_ACCESS_LOG = True  # the audit log has them
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "password", "csrfmiddlewaretoken"]

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
    # Not drf-spectacular's own one: enumerations stay where they are used, because many fields are called status, and
    # each means something else.
    "POSTPROCESSING_HOOKS": [
        "connections.gateway.schema.describe_gateway",
        "connections.api.webhook_schema.describe_webhooks",
        "connections.api.schema.describe_monitoring",
    ],
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
    "STYLES": [f"{STATIC_URL}external_apis/admin.css"],
    "SCRIPTS": [f"{STATIC_URL}external_apis/keyboard.js"],
    "SIDEBAR": {"navigation": "connections.admin.navigation.navigation"},
}
