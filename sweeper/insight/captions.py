"""What the pictures of a sweep and their parts are called: on the live page as in the report."""

from __future__ import annotations

import math

from sweeper.text import from_to
from sweeper.text import number as shown

HISTORY, CURVES, PARALLEL = "Optimisation history", "Learning curves", "Parallel coordinates"
SLICES, STANDINGS = "One parameter at a time", "Standings"

COMPLETE, PRUNED, BEYOND = "complete", "pruned (last value)", "breaks a constraint"
BEST_SO_FAR, BAND, MEDIAN, TRAIN = "best so far", "middle 80% of trials", "median trial", "its train_loss"
WINNER, BEST_TENTH, OTHERS = "best trial", "best tenth", "others"


def best_trial(number: int) -> str:
    """The name of the best trial's line."""
    return f"best trial ({number})"


def standings(seeds: int, rows: int, interval: str) -> str:
    """The caption of the finals' standings; ``interval`` says what the intervals are for."""
    text = f"Mean over {seeds} fresh seeds on {rows:,} test rows with its 95% interval {interval}; grey points are "
    text += (
        "single seeds on these rows. Blue circles: the leaders, which cannot be told apart. In brackets: how likely "
    )
    text += "each is the best on new rows; unlike the verdict, not corrected for the number of comparisons. All share "
    return text + "rows and seeds, so pairs are told apart more sharply than by intervals."


def finalist(trial: int, mean: float, low: float, high: float) -> str:
    """A finalist's mean and interval in words."""
    bounds = f" ({from_to(low, high)})" if math.isfinite(low) else ""
    return f"trial {trial} {shown(mean)}{bounds}"
