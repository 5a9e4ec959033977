"""What a sweep's data is, which task was made of it, and what was said about it: the record that its summary keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sweeper.records import SweepRecord

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset

SUMMARY = "data"  # the key in a sweep's summary


@dataclass(frozen=True)
class DataNotes:
    """The data in one line, the task with the reason for it, and the warnings."""

    described: str
    task: str
    why: str
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data."""
        return {**asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataNotes:
        """The record that ``to_json`` wrote."""
        return cls(data["described"], data["task"], data["why"], tuple(data["warnings"]))


def notes_of(dataset: Dataset) -> DataNotes:
    """What there is to say of the data that is at hand."""
    return DataNotes(dataset.describe(), dataset.task, dataset.task_reason, dataset.warnings)


def read_notes(record: SweepRecord) -> DataNotes | None:
    """What was said of the data; None: the sweep has not come to its end yet."""
    data = record.summary.get(SUMMARY)
    return DataNotes.from_json(data) if data else None
