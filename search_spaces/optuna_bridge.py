"""Translates the vocabulary to Optuna: distributions, define-by-run suggestions, random trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper.search_spaces.vocabulary import Choice, Domain, Fixed, FloatRange, IntRange, to_key


def distribution(domain: Domain) -> BaseDistribution:
    """Optuna's distribution for a domain. A fixed value is a category of one."""
    match domain:
        case FloatRange(low, high, log, step):
            return FloatDistribution(low, high, log=log, step=step)
        case IntRange(low, high, log, step):
            return IntDistribution(low, high, log=log, step=step)
        case Choice(values):
            return CategoricalDistribution([to_key(value) for value in values])
        case Fixed(value):
            return CategoricalDistribution([to_key(value)])


def suggest(trial: Any, name: str, domain: Domain) -> Any:
    """What the trial suggests for one parameter, as Optuna holds it."""
    match domain:
        case FloatRange(low, high, log, step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntRange(low, high, log, step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case Choice(values):
            return trial.suggest_categorical(name, [to_key(value) for value in values])
        case Fixed(value):
            return trial.suggest_categorical(name, [to_key(value)])


def random_trials(n: int) -> Iterator[optuna.Trial]:
    """``n`` trials of a throw-away study in memory whose suggestions are random, the same ones every time."""
    study = quiet_study()
    for _ in range(n):
        yield study.ask()


def enqueued_trial(params: Mapping[str, Any]) -> optuna.Trial:
    """A trial of a throw-away study that suggests the given values, and random ones for everything else."""
    study = quiet_study()
    study.enqueue_trial(dict(params))
    return study.ask()


def quiet_study(sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    """A study in memory that minimises and never prunes, by default a random one; creating it prints nothing."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = sampler or optuna.samplers.RandomSampler(seed=0)
        return optuna.create_study(sampler=sampler, pruner=optuna.pruners.NopPruner())
    finally:
        optuna.logging.set_verbosity(verbosity)
