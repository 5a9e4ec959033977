"""What a sweep has taken over from an earlier one: frozen in its spec, because the earlier sweep may be deleted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sweeper.spec.section import Section


def as_tuple(value: Any) -> Any:
    """JSON has lists where a spec has tuples."""
    return tuple(value) if isinstance(value, list) else value


class WarmPoint(Section):
    """One trial of the earlier sweep as a point of the new space, with the metrics that the new sweep judges it by."""

    params: dict[str, Any]
    state: Literal["complete", "pruned", "diverged"]
    epochs: Annotated[int, Field(ge=0)] = 0
    metrics: dict[str, float] = Field(default_factory=dict)


class WarmStart(Section):
    """The points taken from sweep ``sweep``, which ``search.from`` named as ``asked``.

    ``trials`` is how many of its trials had ended with a result; ``left_out`` counts by reason those that are not
    used. ``comparable`` says that data and training were the same: values are compared then, else ranks only.
    """

    asked: str
    sweep: str
    name: str
    trials: int
    comparable: bool
    left_out: dict[str, int] = Field(default_factory=dict)
    points: Annotated[tuple[WarmPoint, ...], BeforeValidator(as_tuple), Field(max_length=1000)] = ()

    @property
    def sentence(self) -> str:
        """How many trials are used, and why the others are not."""
        text = f"warm start: {len(self.points)} of {self.trials} trials of sweep {self.sweep} ({self.name}) are used"
        if not self.comparable:
            text += " by their ranks only, because its data or training differ"
        reasons = [f"{count} {reason}" for reason, count in self.left_out.items()]
        return f"{text}; left out: {', '.join(reasons)}" if reasons else text
