"""The product as a wheel in a project that is not its own: other users, another database, other URLs, no ``config``."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "guest_of_the_tests"

SETTINGS = """
import os
SECRET_KEY = "a secret of the tests"
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = [
    "unfold", "unfold.contrib.filters", "unfold.contrib.simple_history",
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.messages", "django.contrib.staticfiles", "simple_history", "rest_framework",
    "people", "external_apis.backoffice", "external_apis", "connections",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["GUEST_DATABASE"],
    **{name: os.environ.get("GUEST_" + name, "") for name in ("USER", "PASSWORD", "HOST", "PORT")},
}}
AUTH_USER_MODEL = "people.Person"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "/assets/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
if "GUEST_REDIS_URL" in os.environ:
    REDIS_URL = os.environ["GUEST_REDIS_URL"]
    ENCRYPTION_KEYS = "k1:" + "A" * 43 + "="
    EGRESS_ALLOW = ["127.0.0.1"]
"""

FILES = {
    "manage.py": """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "",
    "shop/settings.py": SETTINGS,
    "shop/urls.py": """
from django.contrib import admin
from django.urls import include, path
urlpatterns = [
    path("backstage/", admin.site.urls),
    path("apis/", include("external_apis.management_api.urls")),
    path("apis/", include("connections.api.urls")),
]
""",
    "people/__init__.py": "",
    "people/migrations/__init__.py": "",
    "people/models.py": """
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

class Person(AbstractBaseUser):
    # None of Django's flags is a column.
    badge = models.CharField(max_length=20, primary_key=True)
    is_staff = is_superuser = True
    USERNAME_FIELD = "badge"
    def has_perm(self, perm, obj=None):
        return True
    def has_perms(self, perms, obj=None):
        return True
    def has_module_perms(self, app):
        return True
    objects = BaseUserManager()
""",
    "pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = shop.settings\npythonpath = .\n",
    "conftest.py": 'pytest_plugins = ["connections.testing.fixtures"]\n',
    "test_shop.py": """
from connections.services import get_api_client

def test_canned(fake_api):
    calls = fake_api("stripe/default", answers=[{"id": "pi_1"}])
    assert get_api_client("stripe/default").post("/payment_intents", {"amount": 1}).json()["id"] == "pi_1"
    assert calls[0].form == {"amount": "1"}

def test_sandbox(sandbox_api):
    sandbox_api("stripe/default", scheme="hmac")
    assert get_api_client("stripe/default").get("/me").json()["scheme"] == "hmac"
""",
}


@dataclass(frozen=True)
class Guest:
    """A project in ``folder`` with a Python of its own."""

    folder: Path
    python: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run its Python; an ``environment`` value of "" removes a variable."""
        variables = {name: value for name, value in {**self.environment, **environment}.items() if value}
        return subprocess.run(  # noqa: PLW1510 (callers look at it)
            [str(self.python), *arguments], cwd=self.folder, env=variables, capture_output=True, text=True, timeout=120
        )

    def do(self, *arguments: str) -> str:
        """Run its Python and return what it prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Build the wheel, install it beside this environment's packages, and make the project and its database."""
    home = tmp_path_factory.mktemp("guest")
    wheels, project, environment = home / "wheels", home / "project", home / "venv"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(wheels), str(ROOT)], check=True, timeout=120)
    venv.create(environment)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    (here,) = {Path(path) for path in sys.path if Path(path).name == "site-packages" and Path(path).is_dir()}
    (site / "others.pth").write_text(f"{here}\n")
    (wheel,) = wheels.glob("*.whl")
    subprocess.run(
        [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True, timeout=120
    )
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    database = settings.DATABASES["default"]
    variables = {f"GUEST_{name}": str(database[name]) for name in ("USER", "PASSWORD", "HOST", "PORT")}
    for name in ("host", "port"):  # of a socket
        variables[f"GUEST_{name.upper()}"] = variables[f"GUEST_{name.upper()}"] or str(
            database["OPTIONS"].get(name, "")
        )
    with database_of_its_own(variables):
        yield Guest(
            project,
            python,
            {
                **variables,
                "PATH": os.environ["PATH"],
                "GUEST_DATABASE": DATABASE,
                "GUEST_REDIS_URL": settings.REDIS_URL,
            },
        )


class database_of_its_own:  # noqa: N801 (a context manager)
    """An empty database for the time of the block."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._options = {
            "user": variables["GUEST_USER"], "password": variables["GUEST_PASSWORD"], "host": variables["GUEST_HOST"],
            "port": variables["GUEST_PORT"], "dbname": "postgres",
        }  # fmt: skip

    def _execute(self, statement: str) -> None:
        options = {name: value for name, value in self._options.items() if value}
        with psycopg.connect(autocommit=True, **options) as connection:  # type: ignore[arg-type]
            connection.execute(sql.SQL(statement).format(sql.Identifier(DATABASE)))

    def __enter__(self) -> None:
        self._execute("DROP DATABASE IF EXISTS {}")
        self._execute("CREATE DATABASE {}")

    def __exit__(self, *_: object) -> None:
        self._execute("DROP DATABASE IF EXISTS {}")
