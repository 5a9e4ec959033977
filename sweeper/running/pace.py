"""How fast the trials of a sweep train, and what a sweep with a timeout makes of it."""

from __future__ import annotations

from dataclasses import dataclass

TIME_SHARE = 0.1  # of a sweep's timeout that a CPU may need for a cohort
FIRST_ROWS = 2  # rows of a cohort of a sweep with a timeout, as long as its pace is not known


@dataclass
class Pace:
    """Seconds of a worker that have gone into training, and the epochs of rows in them."""

    seconds: float = 0.0
    epochs: int = 0

    def add(self, seconds: float, epochs: int) -> None:
        """So many epochs of rows have taken so many seconds."""
        self.seconds += seconds
        self.epochs += epochs

    def speed(self, elapsed: float) -> float:
        """Seconds of training that one of the ``elapsed`` seconds of this process has brought; 1: nothing is known."""
        return self.seconds / elapsed if self.seconds > 0 and elapsed > 0 else 1.0

    def rows_in(self, timeout: float | None, epochs: int, most: int, rows_per_trial: int) -> int:
        """How many rows of so many epochs a CPU trains side by side: at ``most`` that many, fewer before a timeout.

        There a row gains nothing from its neighbours, and the time shall not end with many trials half-way.
        """
        if timeout is None:
            return most
        if self.seconds == 0.0:
            return min(most, FIRST_ROWS * rows_per_trial)
        return max(1, min(most, int(TIME_SHARE * timeout * self.epochs / (self.seconds * epochs))))
