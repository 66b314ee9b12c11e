"""The WSGI application that granian serves."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from config import lifeline

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

lifeline.watch_parent()
application = get_wsgi_application()
