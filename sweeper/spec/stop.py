"""When a sweep ends before it has had all of its trials: the section ``search.stop``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sweeper.spec.section import Section, refuse


class StopSpec(Section):
    """The search ends with whichever comes first.

    ``patience``: so many finished trials in a row have not improved the best by more than its noise. ``regret``: in all
    likelihood less than this, in the unit of the objective, is left to gain.
    """

    patience: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    regret: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> StopSpec:
        if self.patience is None and self.regret is None:
            refuse("it says neither patience nor regret", remedy="Write {patience: 50}, or null for no end before time")
        return self

    @property
    def in_words(self) -> str:
        """When the search ends before its trials have."""
        parts = [] if self.patience is None else [f"when {self.patience:,} trials in a row gain less than the noise"]
        parts += [] if self.regret is None else [f"when less than {self.regret:g} is left to gain"]
        return ", or ".join(parts)
