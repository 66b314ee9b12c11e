"""A real OpenID provider (django-oauth-toolkit) in a process of its own: ``python -m tests.oidc_server FOLDER``.

It prints its issuer, keeps SQLite in FOLDER, and lives as long as its standard input is open.
"""

from __future__ import annotations

import os
import sys
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nobody reads it."""


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    os.environ.update(DJANGO_SETTINGS_MODULE="tests.oidc_server.settings", OIDC_SERVER_FOLDER=sys.argv[1])
    application = get_wsgi_application()
    call_command("migrate", run_syncdb=True, verbosity=0)
    server = _Server(("127.0.0.1", 0), _Quiet)
    server.set_app(application)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}/o\n")
    sys.stdout.flush()
    server.serve_forever()
