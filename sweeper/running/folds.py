"""Finals in folds: each finalist trained again without every part of the rows in turn, and judged on that part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.insight.judging import test_metric
from sweeper.spec.parse import SweepSpec
from sweeper.training.legs import Arrays

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset

FRESH = 2000  # added to the sweep's seed: the seed of the first fold


@dataclass(frozen=True, eq=False)
class ScoresInFolds:
    """The scores of finals' trials on the rows that their folds leave out.

    Trial i trains finalist ``i % finalists`` without part ``i // finalists`` of the rows; ``dataset`` has a fold for
    every part.
    """

    spec: SweepSpec
    dataset: Dataset
    finalists: int

    def fold_of(self, number: int) -> int:
        """The fold on which a trial trains."""
        return number // self.finalists

    def examine(self, number: int, params: Mapping[str, Any], weights: Arrays) -> dict[str, float]:
        """What the trial's network scores on the rows that its fold leaves out."""
        from sweeper.training.again import network_of, outputs_on_test, scores_of_judges, scores_on_test

        fold = self.dataset.folds[self.fold_of(number)].prepared(self.spec.inputs_of(params))
        network = network_of(self.spec, fold, params, weights)
        outputs = outputs_on_test(fold, network)
        judged = scores_of_judges(self.spec, fold, outputs)
        return judged | scores_on_test(fold, network, [test_metric(self.spec, fold.task)], outputs)
