"""The sweep file as the ledger keeps it: the validated form as plain data, with the fingerprint of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeper.records import SweepRecord
from sweeper.spec.parse import SweepSpec

FINGERPRINT = "fingerprint"  # the key that no sweep file has


def stored_form(spec: SweepSpec, fingerprint: str | None = None) -> dict[str, Any]:
    """What ``SweepRecord.spec`` holds. The fingerprint of a sweep on a server is written when its data is loaded."""
    return spec.to_json() | ({} if fingerprint is None else {FINGERPRINT: fingerprint})


def sweep_file_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of the sweep file alone."""
    return {key: value for key, value in stored.items() if key != FINGERPRINT}


def fingerprint_of(record: SweepRecord) -> str | None:
    """The fingerprint of the data that the sweep began on; None: it has not loaded its data yet."""
    return record.spec.get(FINGERPRINT)


def spec_of(record: SweepRecord) -> SweepSpec:
    """The sweep file of a record.

    Raises:
        SpecError: it was written by another version of the program.
    """
    return SweepSpec.from_json(sweep_file_of(record.spec))
