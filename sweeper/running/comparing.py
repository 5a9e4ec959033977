"""Compares sweeps: their winners trained on common fresh seeds and judged on the test rows that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweeper.errors import SpecError
from sweeper.insight.advice import ranked
from sweeper.insight.comparison import Contender, SweepComparison, check_goals, put_together
from sweeper.insight.contest import NAMES, Contest, paired_contest, unpaired_contest
from sweeper.insight.finals import read_finals
from sweeper.insight.findings import choices_of
from sweeper.insight.headline import winner_of
from sweeper.insight.judging import test_metric
from sweeper.insight.test_rows import Outputs, read_test
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepRecord, TrialRecord
from sweeper.report.gather import drawn_reports
from sweeper.running.finals import FRESH, final_spec
from sweeper.running.outputs import OutputsOnTest
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import spec_of
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset

SEEDS = 5  # that the winners are trained on
MOST = len(NAMES)


@dataclass(frozen=True)
class _Side:
    """One of the sweeps with its trials and its winner."""

    letter: str
    record: SweepRecord
    spec: SweepSpec
    trials: Sequence[TrialRecord]
    winner: TrialRecord | None


class _NotPaired(Exception):
    """Why winners cannot be judged on common rows."""


def compare_sweeps(ledger: Ledger, home: Path, refs: Sequence[str], seeds: int = SEEDS) -> SweepComparison:
    """What ``sweeper compare`` answers; with ``seeds`` 0 nothing is trained.

    Each winner is trained on the same fresh seeds (those of the finals, where their networks' outputs are kept) and
    judged on the same test rows by the statistics of finals. Sweeps on different rows are compared by the intervals
    of their kept models.

    Raises:
        SweepNotFound: there is no such sweep.
        SpecError: fewer than two sweeps, too many, or without an objective in common.
    """
    records = _records(ledger, refs)
    sides = [_side(ledger, letter, record) for letter, record in zip(NAMES, records, strict=False)]
    check_goals([side.spec for side in sides])
    contest, problem = _contest(ledger, home, sides, seeds)
    choices = [
        choices_of(s.spec, s.trials, drawn_reports(ledger, s.record, s.spec, s.trials), s.spec.search.seed)
        for s in sides
    ]
    return put_together([_contender(side) for side in sides], records, contest, problem, choices)


def _records(ledger: Ledger, refs: Sequence[str]) -> list[SweepRecord]:
    if not 2 <= len(refs) <= MOST:
        remedy = f"Name two to {MOST} sweeps: sweeper compare A B"
        raise SpecError(f"{len(refs)} sweeps were named", key="compare", remedy=remedy)
    records = [ledger.sweep(ref) for ref in refs]
    if len({record.sweep for record in records}) < len(records):
        remedy = "Give ids: a name stands for the newest sweep of that name"
        raise SpecError("a sweep is named twice", key="compare", remedy=remedy)
    return records


def _side(ledger: Ledger, letter: str, record: SweepRecord) -> _Side:
    spec, trials = spec_of(record), ledger.trials(record.sweep)
    return _Side(letter, record, spec, trials, winner_of(record, ranked(spec, trials)))


def _contender(side: _Side) -> Contender:
    record, winner = side.record, side.winner
    return Contender(
        side.letter,
        record.sweep,
        record.name,
        str(record.state),
        int(record.counts.get("complete", 0)),
        record.seconds,
        side.spec.objective.metric,
        None if winner is None else winner.number,
        None if winner is None else winner.value,
    )


def _contest(ledger: Ledger, home: Path, sides: Sequence[_Side], seeds: int) -> tuple[Contest | None, str]:
    """The winners against each other, and why that is not as good as it could be."""
    if without := [side.letter for side in sides if side.winner is None]:
        return None, f"{' and '.join(without)} has no complete trial"
    if any(side.spec.objective.function is not None for side in sides):
        return None, _by_the_search(sides)
    try:
        if seeds == 0:
            raise _NotPaired("no winner was to be trained")
        return _paired(ledger, home, sides, seeds), ""
    except _NotPaired as reason:
        metric = sides[0].spec.objective.metric.removeprefix("val_")
        contest = unpaired_contest({side.letter: read_test(side.record) for side in sides}, metric)
        more = "" if contest is not None else ", and their kept models have no score on test rows in common"
        return contest, f"{reason}{more}"


def _by_the_search(sides: Sequence[_Side]) -> str:
    """What objectives of the user's own say, which have no rows that others could be judged on."""
    values = " and ".join(f"{s.letter} {s.winner.value:.6g}" for s in sides if s.winner and s.winner.value is not None)
    return f"an objective of one's own has no test rows; the best values of the searches are {values}"


def _paired(ledger: Ledger, home: Path, sides: Sequence[_Side], seeds: int) -> Contest:
    """All winners on the same seeds and test rows, by the statistics of finals."""
    datasets = [_data(side) for side in sides]
    first = datasets[0]
    for side, dataset in zip(sides[1:], datasets[1:], strict=True):
        _check_same_rows(sides[0], first, side, dataset)
    metrics = {test_metric(side.spec, first.task) for side in sides}
    metric = metrics.pop() if len(metrics) == 1 else "loss"
    fresh = _fresh(sides, seeds)
    made = {}
    for side, dataset in zip(sides, datasets, strict=True):
        outputs = [_in_units_of(first, dataset, one) for one in _outputs(ledger, home, side, dataset, metric, fresh)]
        if not all(np.isfinite(one).all() for one in outputs):
            raise _NotPaired(f"the winner of {side.letter} diverges on one of {len(fresh)} fresh seeds")
        made[side.letter] = outputs
    spec = sides[0].spec
    return paired_contest(metric, first, made, fresh, spec.search.seed, scoring_of(spec, first))


def _data(side: _Side) -> Dataset:
    from sweeper.data.loading import load_same

    try:
        return load_same(side.record, side.spec)
    except SpecError as error:
        raise _NotPaired(f"the data of {side.letter} cannot be had any more ({error})") from error


def _check_same_rows(a: _Side, first: Dataset, b: _Side, other: Dataset) -> None:
    """Whether two sweeps keep the same rows for the test."""
    names = f"{a.letter} and {b.letter}"
    if (first.task, first.class_labels) != (other.task, other.class_labels):
        raise _NotPaired(f"{names} predict different targets")
    if first.rows_fingerprint != other.rows_fingerprint and not _equal_rows(a.spec, first, b.spec, other):
        raise _NotPaired(f"{names} have different test rows")


def _equal_rows(spec: SweepSpec, first: Dataset, other_spec: SweepSpec, other: Dataset) -> bool:
    """Whether the test rows are equal in their targets and in all columns that both tables have."""
    from sweeper.data.loading import features_of

    if len(first.y_test) != len(other.y_test) or not np.allclose(_targets(first), _targets(other), rtol=1e-5):
        return False
    mine, theirs = features_of(spec).iloc[first.test_rows], features_of(other_spec).iloc[other.test_rows]
    common = [name for name in mine.columns if name in theirs.columns]
    texts = [frame[common].astype(str).reset_index(drop=True) for frame in (mine, theirs)]
    return bool(common) and texts[0].equals(texts[1])


def _targets(dataset: Dataset) -> np.ndarray:
    """(t,) the targets of the test rows as they are in the table."""
    if dataset.task == "classification":
        return dataset.y_test
    return np.asarray(dataset.y_test.astype(np.float64) * dataset.target_std + dataset.target_mean)


def _in_units_of(first: Dataset, own: Dataset, outputs: Outputs) -> Outputs:
    """Outputs on the scale of another sweep's training rows."""
    if first.task == "classification":
        return outputs
    values = outputs.astype(np.float64) * own.target_std + own.target_mean
    return np.asarray((values - first.target_mean) / first.target_std, dtype=np.float32)


def _fresh(sides: Sequence[_Side], count: int) -> list[int]:
    """The seeds that the winners are trained on: those that all finals have in common, where there are enough."""
    known = [set(f.seeds) for s in sides if (f := read_finals(s.record)) is not None and f.folds is None]
    common = sorted(set.intersection(*known)) if known else []
    start = sides[0].spec.search.seed + FRESH
    return common if len(common) >= min(count, 2) else list(range(start, start + count))


def _outputs(
    ledger: Ledger, home: Path, side: _Side, dataset: Dataset, metric: str, seeds: Sequence[int]
) -> list[Outputs]:
    """What the winner's networks of these seeds say of the test rows: as the finals kept it, else trained now."""
    assert side.winner is not None
    spec, folder = final_spec(side.spec, 1), home / "sweeps" / side.record.sweep
    kept = _trained_in_finals(ledger, side)
    of_finals = OutputsOnTest(folder / "test-outputs", spec, dataset, metric)
    own = OutputsOnTest(folder / "compared" / f"trial-{side.winner.number}", spec, dataset, metric)
    made = []
    for seed in seeds:
        if seed in kept:
            made.append(of_finals.of(kept[seed]))
        else:
            made.append(own.of(replace(side.winner, number=seed, seed=seed)))
    return made


def _trained_in_finals(ledger: Ledger, side: _Side) -> dict[int, TrialRecord]:
    """The finals' trials of the winner by seed."""
    finals = read_finals(side.record)
    if finals is None or finals.folds is not None or side.winner is None:
        return {}
    children = [child for child in ledger.finals(parent=side.record.sweep) if child.sweep == finals.sweep]
    trials = [trial for child in children for trial in ledger.trials(child.sweep)]
    return {trial.seed: trial for trial in trials if trial.params == side.winner.params}
