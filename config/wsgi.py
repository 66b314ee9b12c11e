"""The WSGI application that granian serves."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from config import lifeline, sealed_under

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

lifeline.watch_parent()
application = get_wsgi_application()
sealed_under.end_with_foreign_keys()
