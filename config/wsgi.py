"""The WSGI application that granian serves."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from config import lifeline, postgres, sealed_under

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("DATABASE_STATEMENT_MS", postgres.SERVING_STATEMENT_MS)

lifeline.watch_parent()
application = get_wsgi_application()
sealed_under.end_with_foreign_keys()
