"""The WSGI application that granian serves."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application
from django.db import connection

from config import lifeline, postgres, sealed_under

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("DATABASE_STATEMENT_MS", postgres.SERVING_STATEMENT_MS)

lifeline.watch_parent()
application = get_wsgi_application()
sealed_under.end_with_foreign_keys()

# Only now is there a registry of apps.
from config import spool_required  # noqa: E402
from connections import first_grants  # noqa: E402
from connections.oauth.recovery import recover_at_start  # noqa: E402
from external_apis.hostile_input import CarefulRequest  # noqa: E402

application.request_class = CarefulRequest
spool_required.end_without_spool()
first_grants.recover_at_start()
recover_at_start()
connection.close()
