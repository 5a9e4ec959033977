"""A winner that came to another value than it had when it was trained again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sweeper.records import SweepRecord

SUMMARY = "again"  # the key in a sweep's summary, present where there is a difference


@dataclass(frozen=True)
class WinnerAgain:
    """The objective of trial ``trial`` as the sweep recorded it, and as it came out in ``arithmetic`` later."""

    trial: int
    recorded: float
    again: float
    arithmetic: str

    @property
    def sentence(self) -> str:
        """What that means, for a reader."""
        return (
            f"trial {self.trial} was recorded with {self.recorded!r}; trained again in {self.arithmetic} it came to "
            f"{self.again!r}, so the kept weights are not quite those that were judged"
        )

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WinnerAgain:
        """The record that ``to_json`` wrote."""
        return cls(**data)


def read_again(record: SweepRecord) -> WinnerAgain | None:
    """The difference that training the winner again has shown, if any."""
    data = record.summary.get(SUMMARY)
    return WinnerAgain.from_json(data) if data else None
