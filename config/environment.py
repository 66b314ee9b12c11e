"""Settings from the environment, by django-environ; a missing or malformed one is named, its value never quoted."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email
from environ.fileaware_mapping import FileAwareMapping

from external_apis import jwt_secrets, trusted_issuers
from external_apis.crypto import Keyring
from external_apis.egress import Allowance
from external_apis.errors import EgressRefused
from external_apis.transport.origin import Origin

_YES, _NO = frozenset(["1", "true", "yes", "on"]), frozenset(["0", "false", "no", "off"])
_MAIL_PORTS = {"smtp": 25, "smtps": 587, "smtp+tls": 587, "smtp+ssl": 465}
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Environment:
    """The variables of ``environ``, each also as ``NAME_FILE``; an empty one is one that is not set.

    Every method raises `ImproperlyConfigured` with one line that names the variable and says what it should be.
    """

    def __init__(self, environ_: Mapping[str, str]) -> None:
        self._env = environ.Env()
        self._env.ENVIRON = FileAwareMapping(dict(environ_))
        self.secrets: set[str] = set()
        """The variables read so far whose values are secret, or may hold a password."""

    def secret(self, name: str, default: str = "") -> str:
        """Return a text that is kept from whatever this process starts for others (`manage.py exec`)."""
        self.secrets.add(name)
        return self.text(name, default)

    def text(self, name: str, default: str = "") -> str:
        try:
            value: str = self._env.str(name, default="")
        except (OSError, UnicodeDecodeError):
            raise ImproperlyConfigured(f"{name}_FILE names a file that cannot be read as text.") from None
        return value.strip() or default

    def required_secret(self, name: str) -> str:
        self.secrets.add(name)
        return self.required(name)

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise ImproperlyConfigured(f"Set the environment variable {name} (or {name}_FILE).")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name).lower()
        if value and value not in _YES | _NO:
            raise ImproperlyConfigured(f"{name} is true or false.")
        return value in _YES if value else default

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self.text(name, str(default))
        if not (re.fullmatch(r"[0-9]{1,15}", value) and low <= int(value) <= high):
            raise ImproperlyConfigured(f"{name} is a whole number from {low} to {high}.")
        return int(value)

    def items(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """Return what stands between the commas."""
        return [item.strip() for item in self.text(name).split(",") if item.strip()] or list(default)

    def apps(self, name: str) -> list[str]:
        """Return the Django apps between the commas: packages, or AppConfig classes."""
        given = self.items(name)
        for app in given:
            module, _, last = app.rpartition(".")
            if not _is_found(module if last[:1].isupper() else app):
                raise ImproperlyConfigured(
                    f"{name} names {app!r}, which is not to be found: is its folder in PYTHONPATH?"
                )
        return given

    def addresses(self, name: str) -> list[str]:
        """Return the e-mail addresses between the commas."""
        given = self.items(name)
        try:
            for item in given:
                validate_email(item)
        except ValidationError:
            raise ImproperlyConfigured(f"{name} lists e-mail addresses such as ops@example.com.") from None
        return given

    def origins(self, name: str) -> tuple[str, ...]:
        """Return the origins between the commas, each in the one form in which browsers write it."""
        given = self.items(name)
        for item in given:
            try:
                is_sound = str(Origin.of(item)) == item
            except EgressRefused:
                is_sound = False
            if not is_sound:
                raise ImproperlyConfigured(f"{name} lists origins such as https://app.example.com, without a path.")
        return tuple(given)

    def log_level(self, name: str) -> str:
        level = self.text(name, "INFO").upper()
        if level not in _LOG_LEVELS:
            raise ImproperlyConfigured(f"{name} is one of {', '.join(_LOG_LEVELS)}.")
        return level

    def http_url(self, name: str, default: str) -> str:
        """Return an http or https URL without query, fragment and final slash."""
        url = self.text(name, default).rstrip("/")
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment or parts.username:
            raise ImproperlyConfigured(
                f"{name} is an http or https URL without query, such as https://apis.example.com"
            )
        return url

    def issuer(self, name: str) -> str:
        """Return an https URL (http on the loopback) as it was given, its final slash included, or nothing."""
        url = self.text(name)
        parts = _split(url)
        is_safe = parts is not None and (parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1"))
        if url and (not is_safe or self.http_url(name, "") != url.rstrip("/")):
            raise ImproperlyConfigured(f"{name} is an https URL, such as https://login.example.com/realms/staff")
        return url

    def database(self, name: str) -> dict[str, Any]:
        """Return Django's settings of a PostgreSQL database."""
        expected = f"{name} names a PostgreSQL database: postgresql://user:password@host:5432/name"
        url = self.required_secret(name)
        # Asked first: for a scheme that it does not know the library prints the URL, password and all.
        if not url.startswith(("postgres://", "postgresql://")):
            raise ImproperlyConfigured(expected)
        try:
            config: dict[str, Any] = self._env.db_url_config(url)
        except ValueError:
            raise ImproperlyConfigured(expected) from None
        if not config.get("NAME"):
            raise ImproperlyConfigured(expected)
        return config

    def redis_url(self, name: str) -> str:
        url = self.required_secret(name)
        parts = _split(url)
        if not url.startswith("unix:///") and (parts is None or parts.scheme not in ("redis", "rediss")):
            raise ImproperlyConfigured(f"{name} names a Valkey or Redis server: redis://host:6379/0")
        return url

    def proxy_url(self, name: str) -> str:
        url = self.secret(name)
        parts = _split(url)
        if url and (parts is None or parts.scheme not in ("http", "https")):
            raise ImproperlyConfigured(f"{name} names an HTTP proxy: http://host:3128")
        return url

    def email(self, name: str) -> dict[str, Any]:
        """Return Django's settings of a mail server; unset, mails are dropped."""
        url = self.secret(name, "dummymail://")
        try:
            scheme = url.partition("://")[0]
            config: dict[str, Any] = (
                self._env.email_url_config(url) if scheme in (*_MAIL_PORTS, "consolemail", "dummymail") else {}
            )
            is_sound = bool(config) and (not scheme.startswith("smtp") or bool(config["EMAIL_HOST"]))
        except (ValueError, ImproperlyConfigured):
            is_sound = False
        if not is_sound:
            raise ImproperlyConfigured(f"{name} names a mail server: smtp+tls://user:password@mail.example.com:587")
        config["EMAIL_PORT"] = config["EMAIL_PORT"] or _MAIL_PORTS.get(scheme, 25)
        return {key: value for key, value in config.items() if key.startswith("EMAIL_") and key != "EMAIL_FILE_PATH"}

    def encryption_keys(self, name: str) -> str:
        text = self.required_secret(name)
        try:
            Keyring.parse(text)
        except ValueError as error:
            raise ImproperlyConfigured(str(error)) from None
        return text

    def jwt_secrets(self, name: str) -> str:
        text = self.required_secret(name)
        try:
            jwt_secrets.parse(text)
        except ValueError as error:
            raise ImproperlyConfigured(str(error)) from None
        return text

    def egress_allowances(self, name: str) -> list[str]:
        entries = self.items(name)
        try:
            for entry in entries:
                Allowance.parse(entry)
        except ValueError as error:
            raise ImproperlyConfigured(str(error)) from None
        return entries

    def trusted_issuers(self, name: str, default_audience: str) -> tuple[trusted_issuers.TrustedIssuer, ...]:
        try:
            return trusted_issuers.parse(self.text(name), default_audience)
        except ValueError as error:
            example = '[{"issuer": "https://id.example.com", "audience": "external-services"}]'
            raise ImproperlyConfigured(f"{name} is a JSON list such as {example}; {error}.") from None

    def ca_file(self, name: str) -> str:
        path = self.text(name)
        try:
            if path:
                ssl.create_default_context(cafile=path)
        except OSError:
            raise ImproperlyConfigured(f"{name} names a file that holds no readable PEM certificates.") from None
        return path

    def folder(self, name: str, default: str = "") -> str | None:
        path = self.text(name, default)
        return str(Path(path).absolute()) if path else None


def _is_found(module: str) -> bool:
    """Whether a module could be imported: it is not, as it may need the settings."""
    try:
        return bool(module) and find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL with a host and a possible port, else None."""
    try:
        parts = urlsplit(url)
        is_sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if is_sound and not re.search(r"\s", url) else None
