"""What became of the old rows: counts, reasons, and remarks, each a number of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connections.imports.masking import printable
from connections.imports.social_platforms.sources import Reference

__all__ = ["Summary"]


@dataclass
class Summary:
    """``platforms`` and ``accounts`` count rows as migrated, recognised, skipped and failed; ``reasons`` tell why those
    of the latter two were not imported, ``notes`` what to know of those that were. ``remarks`` are about single
    platforms. Of a run that is gone on with: only what this process did."""

    platforms: Counter[str] = field(default_factory=Counter)
    accounts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    report_path: str = ""

    def remark(self, name: str, text: str) -> None:
        """Note something about one platform; its name is somebody else's text, and may be meant for a terminal."""
        self.remarks.append(printable(f"{name}: {text}"))

    def counts(self) -> dict[str, int]:
        """Tell it to the run: of both tables together, what migrated as created."""
        return {"created" if one == "migrated" else one: self.platforms[one] + self.accounts[one] for one in _ORDER}

    def lines(self) -> Iterator[str]:
        """Tell it to people."""
        for what, counts in (("Platforms", self.platforms), ("Accounts", self.accounts)):
            yield f"{what}: " + (", ".join(f"{counts[name]:,} {name}" for name in _ORDER if counts[name]) or "none")
        yield from (f"  {remark}" for remark in self.remarks)
        for title, counted in (("Not imported", self.reasons), ("Imported, but", self.notes)):
            if counted:
                yield f"{title}:"
                yield from (f"  {count:,} {reason}" for reason, count in counted.most_common())
        if self.references:
            yield "Other tables of the old database that point at them:"
            yield from (f"  {_reference(one)}" for one in self.references)
        if self.report_path:
            yield f"The rows that failed are in {self.report_path}"

    def facts(self) -> dict[str, Any]:
        """Tell it to machines."""
        return {
            "platforms": _counts(self.platforms),
            "accounts": _counts(self.accounts),
            "reasons": dict(self.reasons),
            "notes": dict(self.notes),
            "remarks": self.remarks,
            "references": [vars(one) for one in self.references],
            "report": self.report_path or None,
        }


_ORDER = ("migrated", "recognised", "skipped", "failed")


def _counts(counted: Counter[str]) -> Mapping[str, int]:
    return {name: counted[name] for name in _ORDER}


def _reference(one: Reference) -> str:
    how = "foreign key" if one.is_foreign_key else "by its name"
    rows = f", about {one.rows_estimate:,} rows" if one.rows_estimate >= 0 else ""
    return f"{one.table}.{one.column} → {one.target} ({how}{rows})"
