"""A loss that explodes is divergence before it is infinite: the trial is ended where it left every useful scale."""

from __future__ import annotations

from dataclasses import replace

from sweeper.training.legs import TrialLeg

LOSSES = ("train_loss", "val_loss")
LIMIT = 1e6
"""A regression's target is standardised, so that predicting its mean costs 1; guessing one of C classes costs ln C. A
loss of a million is a thousand standard deviations off, or a probability of exp(-1e6) for what was true."""


def cut_at_explosion(trial: TrialLeg) -> TrialLeg:
    """The leg up to the epoch before a loss exceeds ``LIMIT``, with that as its ``diverged``; else the leg as it is."""
    for at in range(trial.epochs - trial.first_epoch):
        for name in LOSSES:
            if trial.metrics[name][at] > LIMIT:
                cause = f"{name} exploded to {trial.metrics[name][at]:.3g} in epoch {trial.first_epoch + at}"
                kept = {metric: values[:at] for metric, values in trial.metrics.items()}
                return replace(trial, metrics=kept, finished=False, diverged=cause, weights=None, states=None)
    return trial
