"""What an embedded installation answers for by itself: its folder, its secrets, the addresses of its servers.

`config.settings` only reads (`environment`); `manage.py` makes what is missing (`prepare`) before Django loads, and
`config.embedded` starts the servers that the addresses name.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

CHECKOUT = Path(__file__).resolve().parent.parent
DATABASE = "external_apis"
OWNER_ROLE = "external_apis_owner"
APP_ROLE = "external_apis_app"
POSTGRES_PORT = 5432
"""Part of the socket's file name; nothing listens on TCP."""

_SECRETS = "secrets.env"
_SOCKETS = "sockets"
_PORT = "port"
_GENERATED = ("SECRET_KEY", "ENCRYPTION_KEYS", "JWT_SECRET", "ADMIN_API_KEY", "ADMIN_PASSWORD")
# A UNIX socket's path holds 108 bytes on Linux and 104 on macOS: a checkout's own path may be longer.
_SOCKET_PARENT = Path("/tmp")  # noqa: S108 - a fresh private folder below it, its owner and mode checked at each use


def is_embedded(environ: Mapping[str, str]) -> bool:
    """Tell whether neither ``DATABASE_URL`` nor ``REDIS_URL`` (nor their ``_FILE`` forms) is set; empty is not set."""
    return not any(environ.get(name + form) for name in ("DATABASE_URL", "REDIS_URL") for form in ("", "_FILE"))


def var_dir(environ: Mapping[str, str]) -> Path:
    """Return the absolute folder of the embedded data: ``VAR_DIR``, or ``var`` in the checkout."""
    return Path(environ.get("VAR_DIR") or CHECKOUT / "var").absolute()


def socket_dir(folder: Path) -> Path:
    """Return the private folder that holds the servers' sockets.

    Raises `ImproperlyConfigured` when none is recorded, or when somebody else could have put the sockets there.
    """
    try:
        path = Path((folder / _SOCKETS).read_text("utf-8").strip())
    except FileNotFoundError:
        raise ImproperlyConfigured(_not_prepared(folder)) from None
    if not _is_private(path):
        raise ImproperlyConfigured(f"The socket folder {path} is gone or not private; {_start_hint()}")
    return path


def environment(folder: Path) -> dict[str, str]:
    """Return the variables that the embedded installation in ``folder`` answers for; creates nothing.

    Raises `ImproperlyConfigured` when it has not been prepared yet.
    """
    sockets = socket_dir(folder)
    return {
        "DATABASE_URL": postgres_url(sockets, APP_ROLE),
        "MIGRATE_DATABASE_URL": postgres_url(sockets, OWNER_ROLE),
        "REDIS_URL": f"unix://{sockets / 'valkey.sock'}",
        **_read_port(folder),
        **_read_secrets(folder),
    }


def overlay(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return ``environ`` with `environment` filled in wherever it says nothing, or only an empty text."""
    return environment(folder) | {name: value for name, value in environ.items() if value}


def postgres_url(sockets: Path, role: str, database: str = DATABASE) -> str:
    """Return libpq's form of a URL over a UNIX socket; django-environ passes the query on as driver options."""
    return f"postgresql://{role}@/{database}?host={sockets}&port={POSTGRES_PORT}"


def celery_url(redis_url: str) -> str:
    """Return the broker address for ``redis_url``: kombu spells a UNIX socket ``redis+socket://``, redis-py ``unix://``."""
    return redis_url.replace("unix://", "redis+socket://", 1) if redis_url.startswith("unix://") else redis_url


def prepare(folder: Path) -> bool:
    """Make the folder, its secrets and its socket folder where they are missing; tell whether the secrets are new.

    Raises `ImproperlyConfigured` when the folder is somebody else's, or when a database is there and its secrets are
    not: new ones could not open what it holds.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"VAR_DIR {folder} cannot be made: {error.strerror}.") from None
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        raise ImproperlyConfigured(f"VAR_DIR {folder} belongs to user id {owner}; set VAR_DIR to a folder of your own.")
    with _held(folder / "prepare.lock"):
        is_new = not (folder / _SECRETS).exists()
        if is_new:
            if (folder / "postgres").exists():
                raise ImproperlyConfigured(
                    f"{folder / _SECRETS} is missing, and the credentials in {folder / 'postgres'} are sealed under "
                    "its keys: put it back, or type 'make reset' to start empty."
                )
            write_once(folder / _SECRETS, _new_secrets())
        _ensure_socket_dir(folder)
    return is_new


def _new_secrets() -> str:
    values = {
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ENCRYPTION_KEYS": f"k{secrets.token_hex(4)}:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "JWT_SECRET": secrets.token_urlsafe(48),
        "ADMIN_API_KEY": f"sk_live_{secrets.token_hex(32)}",
        "ADMIN_PASSWORD": secrets.token_urlsafe(15),
    }
    warning = "# Made at the first start. Whoever loses this file loses every stored credential: keep a copy elsewhere."
    return "\n".join([warning, *(f"{name}={value}" for name, value in values.items())]) + "\n"


def record_port(folder: Path, port: int) -> None:
    """Remember where `up` serves, so that commands beside it reach its sandbox and name its address."""
    (folder / _PORT).write_text(str(port), "utf-8")


def _read_port(folder: Path) -> dict[str, str]:
    try:
        return {"PORT": (folder / _PORT).read_text("utf-8").strip()}
    except FileNotFoundError:
        return {}


def _read_secrets(folder: Path) -> dict[str, str]:
    try:
        text = (folder / _SECRETS).read_text("utf-8")
    except FileNotFoundError:
        raise ImproperlyConfigured(_not_prepared(folder)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{folder / _SECRETS} cannot be read ({type(error).__name__}).") from None
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    values = {name.strip(): value.strip() for name, value in pairs}
    missing = [name for name in _GENERATED if not values.get(name)]
    if missing:
        raise ImproperlyConfigured(f"{folder / _SECRETS} lacks {', '.join(missing)}.")
    return {name: values[name] for name in _GENERATED}


def write_once(path: Path, text: str) -> None:
    """Write ``path`` with mode 0600, whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _ensure_socket_dir(folder: Path) -> None:
    try:
        socket_dir(folder)
    except ImproperlyConfigured:
        made = tempfile.mkdtemp(prefix="eam-", dir=_SOCKET_PARENT)
        (folder / _SOCKETS).unlink(missing_ok=True)
        write_once(folder / _SOCKETS, f"{made}\n")


def _is_private(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


@contextmanager
def _held(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _not_prepared(folder: Path) -> str:
    return f"{folder} holds no embedded installation yet; {_start_hint()}"


def _start_hint() -> str:
    return "type 'make run', or set DATABASE_URL and REDIS_URL."
