"""Connections' values as environment variables of a command, which takes the place of this process."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from connections.remote.reading import pick
from connections.wire.arguments import refuse

__all__ = [
    "Departure",
    "Wanted",
    "become",
    "collect",
    "departing",
    "is_departure_awaited",
    "read_wanted",
    "split_command",
]

_awaited: list[bool] = []

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_NOT_A_LETTER = re.compile(r"[^A-Z0-9]+")
_DEFAULT_SLUG = "default"
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # as shells have it
# What would let the command do more than what it was given values for: run other code, ask other hosts, trust others.
_STEERING = re.compile(
    r"(LD|DYLD|GIT|BASH_FUNC|NPM_CONFIG|BUNDLE|GEM|LUA|DOTNET|CORECLR|COR|JDK|OPENSSL|MALLOC|PIP|UV|CARGO|RUSTC)_.*"
    r"|PYTHON([A-Z0-9]*|_[A-Z_]+)|PERL(5?LIB|5OPT|5DB|_.*)|RUBY(LIB|OPT)|NODE_(OPTIONS|PATH|EXTRA_CA_CERTS|TLS_.*)"
    r"|_?JAVA(_TOOL)?_OPTIONS|JAVA_OPTS|CLASSPATH|PHPRC|PHP_INI_SCAN_DIR|R_PROFILE(_USER)?|R_ENVIRON(_USER)?"
    r"|BASH_ENV|ENV|HOME|IFS|PATH|CDPATH|SHELL|SHELLOPTS|BASHOPTS|PROMPT_COMMAND|PS4|TMPDIR|EDITOR|VISUAL|PAGER|BROWSER"
    r"|LESSOPEN|LESSCLOSE|MANPAGER|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|HOSTALIASES|RESOLV_HOST_CONF|LOCALDOMAIN"
    r"|(HTTPS?|FTP|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|SSLKEYLOGFILE|(REQUESTS|CURL|AWS)_CA_BUNDLE"
    r"|(RSYNC|SSH|DOCKER|XDG|MAKE|TAR|GZIP|GREP|CURL|WGET|MAN|LESS|VIM|EMACS|KUBE|HELM|TERRAFORM|TF|ANSIBLE)_.*|ZDOTDIR"
    r"|MAKEFLAGS|MFLAGS|KUBECONFIG|.*_(OPTIONS|OPTS|FLAGS|ASKPASS|RSH|PAGER|EDITOR|SHELL|COMMAND|PRELOAD)"
    r"|DJANGO_SETTINGS_MODULE|EAM_.*"
)
# How services are usually told where their own things are: none is named by a provider's slug alone.
_OF_SERVICES = frozenset(
    ("ADMIN_PASSWORD", "BROKER_URL", "CELERY_BROKER_URL", "DATABASE_URL", "EMAIL_URL", "ENCRYPTION_KEYS", "JWT_SECRET",
     "MONGO_URL", "REDIS_URL", "SECRET_KEY")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """A variable and the connection whose value it gets; without ``variable`` all values, under the usual names."""

    reference: str
    variable: str = ""
    credential: str | None = None


def read_wanted(variables: Iterable[str], references: Iterable[str]) -> list[Wanted]:
    """Read ``NAME=reference[:credential]`` and bare references. Raises `InvalidInput`."""
    wanted = []
    for text in variables:
        name, equals, source = text.partition("=")
        reference, _, credential = source.partition(":")
        if not equals or not _NAME.fullmatch(name) or not reference:
            raise refuse("--env", "is not NAME=reference or NAME=reference:credential")
        if _STEERING.fullmatch(name.upper()):
            raise refuse("--env", f"may not set {name}, by which the command itself is found or steered")
        wanted.append(Wanted(reference, name, credential or None))
    wanted += [Wanted(reference) for reference in references]
    names = [item.variable for item in wanted if item.variable]
    if not wanted or len(set(names)) < len(names):
        raise refuse("--env", "is given twice for one name" if wanted else "or --connection is needed")
    return wanted


def collect(
    wanted: Sequence[Wanted], read: Callable[[str], tuple[str, Mapping[str, Any]]], withheld: Iterable[str] = ()
) -> dict[str, str]:
    """Return the variables; each connection is read once.

    ``read`` returns a reference's name (both slugs) and its values. Raises what it raises, `MissingCredential`, and
    `InvalidInput` for a value that no environment can carry, where two connections would have one variable, and where
    a usual name is that of a variable which steers the command, is ``withheld`` from it, or tells services where their
    own things are: whoever names a connection does not choose those.
    """
    reserved = {*withheld, *_OF_SERVICES}
    found = {reference: read(reference) for reference in dict.fromkeys(item.reference for item in wanted)}
    variables: dict[str, str] = {}
    for item in wanted:
        name, values = found[item.reference]
        chosen = {item.variable: item.credential} if item.variable else {_usual(name, key): key for key in values}
        for variable, credential in chosen.items():
            if variable in variables:
                raise refuse("--connection", f"gives {variable} twice; name one of them by --env")
            if not item.variable and (variable in reserved or _STEERING.fullmatch(variable)):
                raise refuse("--connection", f"would set {variable}, which means something else; name it by --env")
            value = pick(values, credential)
            if "\0" in value:
                raise refuse("--env", f"cannot carry the value of {variable}, which holds a NUL byte")
            variables[variable] = value
    return variables


def become(command: Sequence[str], variables: Mapping[str, str], withheld: Iterable[str]) -> NoReturn:
    """Run a command in this process's place, with its environment, less ``withheld``, and the variables.

    Signals and the exit code are the command's own. Where it cannot be run the process ends with 127 or 126.
    """
    hidden = set(withheld)
    environ = {name: value for name, value in os.environ.items() if name not in hidden} | dict(variables)
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # Python ignores them, and the command would too
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], list(command), environ)  # noqa: S606 (what the caller asks for)
    except FileNotFoundError:
        print(f"{command[0]}: not found", file=sys.stderr)
        sys.exit(_NOT_FOUND)
    except (OSError, ValueError) as error:
        print(f"{command[0]}: cannot be run ({type(error).__name__})", file=sys.stderr)
        sys.exit(_NOT_EXECUTABLE)


class Departure(SystemExit):
    """Raised by whoever has to leave first: what this process does once others have cleared up (see `departing`)."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], withheld: Iterable[str]) -> None:
        super().__init__("The command was not run: nobody took the place of this process.")
        self._arguments = (command, variables, withheld)

    def become(self) -> NoReturn:
        become(*self._arguments)


@contextmanager
def departing() -> Iterator[None]:
    """Follow a `Departure` behind the block, when what is cleared up inside of it has been."""
    _awaited.append(True)
    departure: Departure | None = None
    try:
        yield
    except Departure as raised:
        departure = raised
    finally:
        _awaited.pop()
    if departure is not None:
        departure.become()


def is_departure_awaited() -> bool:
    """Whether somebody around us follows a `Departure`; else it has to be done where it is raised."""
    return bool(_awaited)


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands before the first ``--`` and the command behind it, whose options are none of ours."""
    if "--" not in arguments:
        return list(arguments), []
    place = list(arguments).index("--")
    return list(arguments[:place]), list(arguments[place + 1 :])


def _usual(name: str, credential: str) -> str:
    """``stripe/default`` and ``access_token``: STRIPE_ACCESS_TOKEN; ``stripe/eu``: STRIPE_EU_ACCESS_TOKEN."""
    provider, _, slug = name.partition("/")
    parts = [provider, *([slug] if slug and slug != _DEFAULT_SLUG else []), credential]
    variable = "_".join(_NOT_A_LETTER.sub("_", part.upper()).strip("_") for part in parts)
    return variable if _NAME.fullmatch(variable) else f"_{variable}"
