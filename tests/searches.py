"""Searches driven without workers: a study that is asked and told in the order that its window allows."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.scheduling.window import batch_start, told_before
from sweeper.search.study import Study
from sweeper.search_spaces import load_space

BATCH, WINDOW = 4, 8


@dataclass(frozen=True)
class Search:
    """What the study reads of a sweep's search section."""

    sampler: str = "tpe"
    seed: int = 0
    deterministic: bool = True


def new_study(space, sampler="tpe", seed=0, direction="minimize", batch=BATCH, window=WINDOW, **given):
    """A study of a space (or of the mapping that describes one)."""
    space = load_space(space) if isinstance(space, dict) else space
    return Study(space, Search(sampler, seed), direction, batch, window, **given)


def askable(asked, told, window, batch, total):
    """The numbers that may be asked next, at most to the end of a batch (None: wait, or nothing is left to ask).

    The trials before ``asked`` have parameters, those before ``told`` have ended.
    """
    if asked >= total or told < told_before(asked, window, batch):
        return None
    return range(asked, min(batch_start(asked, batch) + batch, total))


def drive(study, total, outcome, known=(), batch=BATCH, window=WINDOW):
    """The parameters of ``total`` trials. The study was restored with the ``known`` ones, all of them told."""
    params = list(known)
    told = len(params)
    while len(params) < total or told < total:
        numbers = askable(study.asked, told, window, batch, total)
        if numbers:
            asked = study.ask(list(numbers))
            if not asked:
                break
            params += asked
            continue
        if told == len(params):
            break
        study.tell(told, outcome(told, params[told]))
        told += 1
    return params
