"""What the parts of one import work with: keys, owners, the run, and where they tell what became of the rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from connections.imports.social_platforms.encryption_keys import OldKeys
from connections.imports.social_platforms.failure_report import FailureReport
from connections.imports.social_platforms.owners import Owners
from connections.imports.social_platforms.summary import Summary
from connections.models import ImportRun

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """One import under way. A run that is not stored is a dry run's: it makes nothing."""

    keys: OldKeys
    owners: Owners
    run: ImportRun
    report: FailureReport
    summary: Summary = field(default_factory=Summary)

    @property
    def is_dry(self) -> bool:
        return self.run._state.adding
