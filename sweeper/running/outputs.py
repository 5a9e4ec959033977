"""What networks say of the test rows: the finalists', kept in one file per trial, and the winner's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.data.recent import Recent
from sweeper.insight.test_rows import SUMMARY, winner_test
from sweeper.ledger.protocol import Ledger
from sweeper.models.metric_names import OF_TASK
from sweeper.records import SweepChanged, TrialRecord
from sweeper.running.run import SweepRun
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import schedule_in
from sweeper.training.legs import Arrays
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.training.averaging import TrialModel


class OutputsOnTest:
    """The outputs ``(t, C)`` of finals' trials by number below ``folder``; what is missing is trained again.

    Of finals in folds, ``fold_of`` is the fold that a trial trains on, whose test rows are those that it leaves out.
    """

    def __init__(
        self,
        folder: Path,
        spec: SweepSpec,
        dataset: Dataset,
        metric: str,
        fold_of: Callable[[int], int] | None = None,
    ) -> None:
        self._folder, self._spec, self._dataset, self._metric = folder, spec, dataset, metric
        self.fold_of = fold_of
        self._recent: Recent[Dataset] = Recent(lambda made: made.x_train.nbytes * (1 + len(made.folds)))

    def examine(self, number: int, params: Mapping[str, Any], weights: Arrays) -> dict[str, float]:
        """Keep what the trial's network says of its test rows; its scores on them.

        A full disk costs the file only: it is missing then.
        """
        from sweeper.training.again import network_of, outputs_on_test

        dataset = self._prepared(number, params)
        network = network_of(self._spec, dataset, params, weights)
        outputs = outputs_on_test(dataset, network)
        self._save(number, outputs)
        return self.scores(number, outputs)

    def scores(self, number: int, outputs: np.ndarray) -> dict[str, float]:
        """The scores of ``outputs`` ``(t, C)`` on the test rows of a trial."""
        from sweeper.training.again import scores_of_judges, scores_on_test

        rows = self.rows_of(number)
        return scores_of_judges(self._spec, rows, outputs) | scores_on_test(rows, outputs, [self._metric])

    def of(self, trial: TrialRecord) -> np.ndarray:
        """(t, C) float32: what the trial's network says of its test rows."""
        from sweeper.training.again import network_of, outputs_on_test, train_again, weights_of

        wanted = (len(self.rows_of(trial.number).y_test), self._dataset.n_outputs)
        try:
            outputs: np.ndarray = np.load(self._path(trial.number), allow_pickle=False)
            if outputs.shape == wanted and outputs.dtype == np.float32 and np.isfinite(outputs).all():
                return outputs
        except (OSError, ValueError, EOFError):
            pass  # it is missing, or damaged
        params = trial.params or {}
        dataset = self._prepared(trial.number, params)
        schedule = schedule_in(trial.attributes)
        weights = weights_of(train_again(self._spec, dataset, params, trial.seed, schedule=schedule))
        outputs = outputs_on_test(dataset, network_of(self._spec, dataset, params, weights))
        self._save(trial.number, outputs)
        return outputs

    def rows_of(self, number: int) -> Dataset:
        """The rows that a trial trains on and is judged on."""
        return self._dataset if self.fold_of is None else self._dataset.folds[self.fold_of(number)]

    def _prepared(self, number: int, params: Mapping[str, Any]) -> Dataset:
        """The same with the trial's inputs."""
        inputs, rows = self._spec.inputs_of(params), self.rows_of(number)
        part = None if self.fold_of is None else self.fold_of(number)
        return self._recent.get((inputs, part), lambda: rows.prepared(inputs))

    def _save(self, number: int, outputs: np.ndarray) -> None:
        path = self._path(number)
        part = path.with_suffix(".new")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.save(file, outputs, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"trial-{number:06d}.npy"


def measure_winner(run: SweepRun, model: TrialModel, ledger: Ledger, metric: str) -> None:
    """Measure the kept ``model`` on the test rows, once, and write that into the sweep's summary.

    Intervals are those of the loss, of the accuracy or the error, and of the objective's ``metric`` (plain name).
    """
    from sweeper.training.again import outputs_on_test, scores_of_judges, scores_on_test

    assert run.best is not None
    number = run.best.number
    dataset, network = model.dataset, model.network()
    outputs = outputs_on_test(dataset, network)
    names = [name for name, about in OF_TASK[dataset.task].items() if not about.binary or dataset.n_outputs == 2]
    found = scores_of_judges(run.spec, dataset, outputs) | scores_on_test(dataset, outputs, names)
    scores = {name.removeprefix("test_"): value for name, value in found.items()}
    sure = dict.fromkeys([metric, "loss", "rmse" if dataset.task == "regression" else "accuracy"])
    known = tuple(name for name in sure if name in scores)
    scoring = scoring_of(run.spec, dataset)
    tested = winner_test(number, dataset, outputs, scores, known, run.spec.search.seed, scoring)
    summary = {**ledger.sweep(run.id).summary, SUMMARY: tested.to_json()}
    ledger.commit(run.id, [SweepChanged(summary=summary)])
