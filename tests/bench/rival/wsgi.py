"""The rival's application; before it serves, 200 keys are made and printed into the file ``RIVAL_KEYS``."""

from __future__ import annotations

import os
from pathlib import Path

from django.core.wsgi import get_wsgi_application
from django.db import connection

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.bench.rival.settings"
application = get_wsgi_application()

from rest_framework_api_key.models import APIKey  # noqa: E402 (there is no registry of apps before)

if APIKey._meta.db_table not in connection.introspection.table_names():
    with connection.schema_editor() as editor:
        editor.create_model(APIKey)
Path(os.environ["RIVAL_KEYS"]).write_text(
    "\n".join(APIKey.objects.create_key(name=f"Key {number}")[1] for number in range(200))
)
connection.close()
