"""The rows of one cohort that may have several shapes: a block of slots for each, trained in turn or side by side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sweeper.scheduling.events import Shape
from sweeper.spec.inputs import Inputs

if TYPE_CHECKING:
    from torch import Tensor

    from sweeper.models import Cohort, Data, TrainConfig, TrialConfig
    from sweeper.models.changes import Changes
    from sweeper.models.cohort import RowReport
    from sweeper.models.metrics import Scorer

ROWS_PER_THREAD = 4  # a block with so many for each thread keeps all of them busy by itself


@dataclass(eq=False)
class _Block:
    """Rows of one shape; ``seconds`` are those of its last epoch."""

    shape: Shape
    cohort: Cohort
    seconds: float = 0.0


class Blocks:
    """Trials of any shapes under the training rules ``train``, but for the batch size, which is their shape's.

    ``data_of`` gives the folds for a shape's inputs. With several ``threads`` of a CPU, large blocks train one after
    another on all of them, small ones side by side; a row's numbers do not depend on it.
    """

    def __init__(
        self,
        train: TrainConfig,
        data_of: Callable[[Inputs], tuple[Data, ...]],
        scorers: Mapping[str, Scorer],
        threads: int = 1,
    ) -> None:
        self._train, self._data_of, self._scorers, self._threads = train, data_of, scorers, threads
        self._blocks: list[_Block] = []
        self._of: dict[Any, _Block] = {}  # by the key of a row
        self._pool: ThreadPoolExecutor | None = None

    def make_room(self, rows: Counter[Shape], at_least: int) -> None:
        """Have free slots for so many more rows of each shape; a new block has ``at_least`` so many slots."""
        for shape, wanted in rows.items():
            free = sum(block.cohort.free for block in self._blocks if block.shape == shape)
            if free < wanted:
                train, slots = replace(self._train, batch_size=shape.batch_size), max(wanted - free, at_least)
                cohort = cohort_of(shape, train, self._data_of(shape.inputs), slots, self._scorers)
                self._blocks.append(_Block(shape, cohort))

    def admit(
        self,
        shape: Shape,
        key: Any,
        config: TrialConfig,
        seed: int,
        state: Mapping[str, Tensor] | None,
        fold: int,
        changes: Changes = (),
    ) -> None:
        """Put a row into a free slot of its shape; see ``Cohort.admit``."""
        block = next(block for block in self._blocks if block.shape == shape and block.cohort.free)
        block.cohort.admit(key, config, seed, state=state, fold=fold, changes=changes)
        self._of[key] = block

    def drop(self, key: Any) -> None:
        """Take a row out of its slot."""
        self._of.pop(key).cohort.drop(key)

    def of(self, key: Any) -> Cohort:
        """The block that a row trains in."""
        return self._of[key].cohort

    def epoch(self) -> Iterator[tuple[RowReport, float]]:
        """Advance every row by one epoch: its report, and its share of the seconds of its block."""
        self._blocks = [block for block in self._blocks if block.cohort.occupants]
        large = [block for block in self._blocks if block.cohort.width >= ROWS_PER_THREAD * self._threads]
        small = [block for block in self._blocks if block not in large]
        small.sort(key=lambda block: block.seconds, reverse=True)  # so that no thread waits long for the last one
        together = self._threads > 1 and len(small) > 1
        for block, reports in [
            *map(_epoch_of, large),
            *(self._side_by_side(small) if together else map(_epoch_of, small)),
        ]:
            for report in reports:
                if report.finished or report.diverged is not None or report.failed is not None:
                    del self._of[report.key]
                yield report, block.seconds / len(reports)

    def _side_by_side(self, blocks: Sequence[_Block]) -> Iterator[tuple[_Block, list[RowReport]]]:
        if self._pool is None:
            import torch

            # the number of threads of torch is one of each of Python's threads
            self._pool = ThreadPoolExecutor(self._threads, "rows", initializer=lambda: torch.set_num_threads(1))
        return self._pool.map(_epoch_of, blocks)


def cohort_of(
    shape: Shape, train: TrainConfig, data: Data | tuple[Data, ...], width: int, scorers: Mapping[str, Scorer]
) -> Cohort:
    """An empty cohort for trials of a shape."""
    if shape.own:
        from sweeper.models.own_cohort import OwnCohort

        return OwnCohort(train, data, width, scorers)
    from sweeper.models import Cohort

    return Cohort(
        train,
        shape.hidden_layers,
        data,
        width,
        scorers=scorers,
        normalization=shape.normalization,
        embedding=shape.embedding,
        padded=shape.padded,
    )


def _epoch_of(block: _Block) -> tuple[_Block, list[RowReport]]:
    began = time.perf_counter()
    reports = block.cohort.leg(1)
    block.seconds = time.perf_counter() - began
    return block, reports
