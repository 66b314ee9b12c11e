"""What commands list: a table for a reader, and tab-separated lines into a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.table import Table

__all__ = ["print_table"]


def print_table(stdout: OutputWrapper, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print lines of cells, under their columns' names where somebody reads them."""
    if not stdout.isatty():
        for line in lines:
            stdout.write("\t".join(line))
        return
    table = Table(*columns)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
