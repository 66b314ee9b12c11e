"""``python -m connections.remote exec --env STRIPE_KEY=stripe/default -- CMD``: a command with connections' values."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from connections.remote.environment import become, collect, read_wanted, split_command
from connections.remote.reading import read_secrets
from connections.remote.server import Server
from external_apis.errors import ApiManagerError

_OURS = ("EAM_URL", "EAM_KEY", "EAM_CA_FILE")


def main(arguments: Sequence[str]) -> None:
    """Read the values and become the command; what is wrong ends the process with 2."""
    # Not left to argparse, which would look for options of ours among those of the command.
    own, command = split_command(arguments)
    parser = ArgumentParser("python -m connections.remote", allow_abbrev=False)
    parser.add_argument("action", choices=["exec"])
    parser.add_argument("--env", action="append", default=[], metavar="NAME=REFERENCE[:CREDENTIAL]")
    parser.add_argument("--connection", action="append", default=[], metavar="REFERENCE", help="all of its values")
    parser.add_argument("--url", help="the server; EAM_URL unless given. Its key is EAM_KEY, never an argument.")
    parser.add_argument("--environment", help="which of the providers is meant that share a slug")
    options = parser.parse_args(own)
    if not command:
        parser.error("the command is missing: -- CMD …")
    try:
        server = Server(options.url)

        def read(reference: str) -> tuple[str, Mapping[str, Any]]:
            found = read_secrets(server, reference, environment=options.environment)
            return found.name, found.values

        variables = collect(read_wanted(options.env, options.connection), read, _OURS)
    except ApiManagerError as error:
        print(error.message, file=sys.stderr)
        sys.exit(2)
    become(command, variables, _OURS)


if __name__ == "__main__":
    main(sys.argv[1:])
