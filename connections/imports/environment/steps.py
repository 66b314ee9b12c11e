"""What becomes of the variables of an environment, as a plan shows it and as it is noted."""

from __future__ import annotations

from dataclasses import dataclass, field

from connections.imports.runs import Imported
from connections.models import EnvironmentVariable

__all__ = ["Change", "Step"]


@dataclass(frozen=True)
class Change:
    """What becomes of a variable, its values masked.

    ``action``: ``new``, ``same``, ``changed`` (and taken), ``kept`` (what is stored stays), ``unused``.
    """

    variable: str
    place: str
    action: str
    given: str
    stored: str = ""
    reason: str = ""


@dataclass
class Step:
    """What becomes of one provider's variables; ``outcome`` is a name of a run's counts."""

    slug: str
    outcome: str = "recognised"
    created: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    reason: str = ""
    made: list[Imported] = field(default_factory=list, repr=False)
    notes: list[EnvironmentVariable] = field(default_factory=list, repr=False)
