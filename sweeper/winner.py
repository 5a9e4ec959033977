"""The winner's weights: those its worker sent, or the same ones trained again."""

from __future__ import annotations

from sweeper.legs import Arrays
from sweeper.sweep_run import SweepRun


def winner_weights(run: SweepRun) -> Arrays:
    """The best trial's weights by parameter name.

    A worker sends weights with a trial that becomes the best. After a resume they are gone with the old process; a
    trial's result depends on its configuration, seed and data only, so training it again gives the same weights.
    """
    from models import train_cohort

    assert run.best is not None
    if run.best.weights is None:
        params = run.params[run.best.number]
        train = run.spec.train_config(run.dataset.task, params)
        seed = run.seeds[run.best.number]
        [history] = train_cohort([run.spec.trial_config(params)], train, run.dataset.tensors(), [seed])
        run.best.weights = {name: tensor.numpy() for name, tensor in history.state_dict.items()}
    return run.best.weights
