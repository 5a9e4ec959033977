"""One sweep while it runs: its data, study, curves and leaders, between the ledger's records and the workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sweeper.data.recent import BYTES, MOST
from sweeper.insight.fused import ONE_BY_ONE
from sweeper.insight.noise import noise_of
from sweeper.records import EpochReport, Found, Noted, Reported, SweepRecord, TrialRecord
from sweeper.running.batches import Settled
from sweeper.running.checkpoints import Checkpoints, States, UnreadableCheckpoint
from sweeper.running.decisions import Decisions, decisions_of
from sweeper.running.enough import Enough, enough_of
from sweeper.running.leaders import Best, Leaders
from sweeper.running.pace import Pace
from sweeper.running.parts import window_and_batch
from sweeper.running.trial import Examine, TrialRun
from sweeper.scheduling.events import LegOutcome, RunLeg, Shape, Suggestion, SweepPlan, Verdict
from sweeper.spec.goals import PARAMETERS, SECONDS, of_folds
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import Phase, Schedule, attributes_of, schedule_in
from sweeper.states import Cause, TrialState
from sweeper.training.legs import (
    Arrays,
    LegOrder,
    LegResult,
    RowStart,
    TrialStart,
    curve_in,
    cut_at_explosion,
    cut_at_failure,
)
from sweeper.training.pool import Order
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.search.objective_study import ObjectiveStudy
    from sweeper.search.study import Outcome, Study
    from sweeper.training.baselines import BaselineWork

LEG_SECONDS = 1.0
BEST_EPOCH = "best_epoch"  # metric of a complete trial: its best epoch, counted from 1; the mean over replicates


@dataclass
class SweepRun:
    """What the controller holds of one sweep besides the scheduler's view of it.

    Finals are a sweep, too, with five differences: ``seed_of`` gives each trial a seed of its own (None: all have the
    sweep's, so that they are compared on the same draws), ``fold_of`` one fold of the data (None: it trains on all of
    them), ``schedule_of`` what it trains with phase by phase (empty or None: its parameters all the time), ``examine``
    judges each complete trial by its weights, and no trial is the best (``keeps_best``), so that every one of them
    sends its weights.
    """

    record: SweepRecord
    spec: SweepSpec
    dataset: Dataset
    study: Study | ObjectiveStudy
    trials: dict[int, TrialRun] = field(default_factory=dict)
    seed_of: Callable[[int], int] | None = None
    fold_of: Callable[[int], int] | None = None
    schedule_of: Callable[[int], Schedule] | None = None
    examine: Examine | None = None
    keeps_best: bool = True
    baselines: BaselineWork | None = None
    requested: int = 0
    checkpoints: Checkpoints | None = None
    leaders: Leaders = field(init=False)
    decisions: Decisions = field(init=False)
    pace: Pace = field(default_factory=Pace)
    notes: list[Noted | Found] = field(default_factory=list)  # for the ledger
    enough: Enough | None = field(init=False)  # None: the search does not end before its trials have
    _untold: dict[int, Outcome] = field(init=False, default_factory=dict)  # for the study

    def __post_init__(self) -> None:
        self.requested, self.enough = self.record.requested, enough_of(self.spec)
        self.leaders = Leaders(self.spec)
        self.decisions = self._make_decisions()

    def _make_decisions(self) -> Decisions:
        return decisions_of(self.spec, self.trials, self.requested)

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.record.sweep

    @property
    def best(self) -> Best | None:
        """The best trial so far."""
        return self.leaders.best

    @property
    def minimize(self) -> bool:
        """Whether smaller objective values are better."""
        return self.spec.objective.direction == "minimize"

    @property
    def plan(self) -> SweepPlan:
        """What the scheduler has to know."""
        search = self.spec.search
        window, batch = window_and_batch(self.spec, self.requested)
        return SweepPlan(
            sweep=self.id,
            requested=self.requested,
            window=window,
            batch=batch,
            deterministic=search.deterministic,
            decision_epochs=self.decisions.epochs,
            rows_per_trial=self.rows_per_trial,
            priority=self.record.priority,
            owner=self.record.owner,
            arithmetic=self.record.arithmetic,
            compiled=self.spec.is_compiled,
            mixed=self.is_mixed,
        )

    @property
    def rows_per_trial(self) -> int:
        """One for each seed and fold."""
        return self.spec.training.replicates * len(self._folds(0))

    @property
    def is_mixed(self) -> bool:
        """Whether trials of several shapes may share a cohort: all are compiled, and their inputs fit the memory."""
        if not self.spec.is_compiled or not self.spec.prepares:
            return self.spec.is_compiled
        return MOST * sum(array.nbytes for array in self.dataset.arrays().values()) <= BYTES

    @property
    def units(self) -> dict[str, float]:
        """Factors from the normalised target to the user's units."""
        return {"val_rmse": self.dataset.target_std} if self.dataset.task == "regression" else {}

    def restore(self, trials: list[TrialRecord], reports: Mapping[int, list[EpochReport]]) -> None:
        """Take up an interrupted sweep where the ledger says it is."""
        known: list[tuple[Mapping[str, Any], Outcome | None]] = []
        for trial in trials:
            if trial.params is None:
                break
            mine = self.trials[trial.number] = TrialRun(trial.params, trial.seed, trial.seconds)
            mine.schedule = schedule_in(trial.attributes)
            self._judge(mine, trial.metrics)
            outcome = None
            if trial.state.terminal and trial.state is not TrialState.STOPPED:
                metric = self.spec.objective.metric
                mine.curve = [r.metrics.get(metric, math.nan) for r in reports.get(trial.number, [])]
                outcome = mine.outcome(self.spec, trial.state, trial.value, trial.cause, noise_of(trial.metrics))
                if self.enough is not None:
                    self.enough.tell(trial.number, outcome, trial.params)
                if trial.state is TrialState.COMPLETE:
                    self.consider(trial.number, trial.value, None)
                mine.ended = True
            known.append((trial.params, outcome))
        self.study.restore(known)

    def params(self, number: int) -> Mapping[str, Any]:
        """The parameters of a suggested trial."""
        params = self.trials[number].params
        assert params is not None
        return params

    def suggested_shapes(self) -> dict[int, Shape]:
        """The shape keys of all trials that were suggested, by number."""
        return {number: self.shape(number) for number, trial in self.trials.items() if trial.params is not None}

    def shape(self, number: int) -> Shape:
        """The shape key of a suggested trial."""
        params = self.params(number)
        config = self.spec.trial_config(params)
        train = self.spec.train_config(self.dataset.task, params)
        batch_size = config.batch_size or train.batch_size
        inputs = self.spec.inputs_of(params)
        how = config.normalized, config.embedding, self.spec.model is not None
        return Shape(config.hidden_layers, batch_size, train.epochs, inputs, *how)

    def results_to_tell(self) -> list[tuple[int, Outcome]]:
        """The results that the study has not been told yet; the caller tells it."""
        fresh, self._untold = self._untold, {}
        return sorted(fresh.items())

    def ask(self, results: list[tuple[int, Outcome]], numbers: tuple[int, ...]) -> list[dict[str, Any]]:
        """Tell the study what has ended, then let it suggest, nothing where the search has come to its end.

        Runs in the sweep's suggestion thread.
        """
        for number, outcome in results:
            self.study.tell(number, outcome)
            if self.enough is not None:
                self.enough.tell(number, outcome, self.params(number))
        if self.enough is not None and self.enough.before(numbers[0]):
            return []
        return self.study.ask(numbers)

    def end(self, number: int, state: TrialState, value: float | None, cause: Cause | None = None) -> None:
        """Remember how a trial ended, for the study and for its batch."""
        trial = self.trials.setdefault(number, TrialRun())
        noise = noise_of({**(trial.kept or {}), **of_folds(trial.folds)})
        trial.ended, trial.kept, trial.folds = True, None, ()  # what its end was judged by is in the ledger
        if trial.params is None:
            return
        self._untold[number] = trial.outcome(self.spec, state, value, cause, noise)
        if not self.decisions.epochs:  # nobody will compare another trial with it
            trial.curve = []

    def forget_search(self) -> None:
        """The search is over: free what only it needs, before the report wants memory.

        Of the trials the best and the candidates of an ensemble stay.
        """
        del self.study, self.decisions
        self._untold.clear()
        self.trials = {number: self.trials[number] for number in sorted(self.leaders.numbers)}

    def wait_again(self, number: int) -> None:
        """A trial was put back: it trains from its checkpoint, or from the beginning."""
        self._untold.pop(number, None)
        if number in self.trials:
            self.trials[number].start_over()
        self.decisions.forget(number)

    def suggested(self, number: int, params: Mapping[str, Any]) -> Suggestion:
        """Remember a suggestion and the seed that the trial trains on."""
        seed = self.spec.search.seed if self.seed_of is None else self.seed_of(number)
        self.trials[number] = TrialRun(params, seed)
        return Suggestion(number, self.shape(number))

    def order(self, leg: RunLeg, export: bool = False) -> Order:
        """The worker's side of a scheduler's leg; with ``export`` it sends back what a checkpoint needs."""
        replicates = self.spec.training.replicates
        configs = {a.number: self.spec.configs_of(self.schedule(a.number)) for a in leg.admit}
        for a in leg.admit:
            if self.schedule_of is not None and (found := self.schedule_of(a.number)):
                self.notes.append(Found(a.number, a.attempt, self.params(a.number), attributes_of((), found)))
        admit = tuple(
            TrialStart(
                number=a.number,
                attempt=a.attempt,
                shape=a.shape,
                config=configs[a.number][0],
                changes=configs[a.number][1],
                rows=tuple(
                    RowStart(self.trials[a.number].seed + r, fold)
                    for r in range(replicates)
                    for fold in self._folds(a.number)
                ),
                states=self._saved(a.number),
            )
            for a in leg.admit
        )
        return LegOrder(
            leg=leg.leg,
            sweep=self.id,
            cohort=leg.cohort,
            train=self.spec.train_config(self.dataset.task),
            admit=admit,
            drop=leg.drop,
            epochs=leg.epochs,
            width=leg.width,
            seconds=LEG_SECONDS,
            metric=self.spec.objective.metric,
            minimize=self.minimize,
            units=self.units,
            keep_better_than=self.leaders.value_to_beat,
            export=export,
            best_under_way=self.keeps_best and self.best is None,
            scoring=scoring_of(self.spec, self.dataset),
        )

    def schedule(self, number: int) -> Schedule:
        """What a trial trains with, phase by phase."""
        if self.schedule_of is not None and (found := self.schedule_of(number)):
            return found
        return (Phase(0, self.params(number)),)

    @property
    def waits(self) -> bool:
        """Whether trials wait for others to be decided."""
        return self.decisions.batches is not None

    @property
    def paused(self) -> frozenset[int]:
        """The trials that wait for others of their population."""
        return frozenset()

    def settle(self) -> Settled | None:
        """What is settled about trials that waited for one that has ended without a leg (None: none waits)."""
        batches = self.decisions.batches
        return None if batches is None else batches.settle(self.requested)

    def _folds(self, number: int) -> Sequence[int]:
        """The folds that a trial trains on; 0 stands for the data where there are none."""
        return range(len(self.dataset.folds) or 1) if self.fold_of is None else (self.fold_of(number),)

    def kept(self, number: int) -> int:
        """How many finished epochs of a trial its checkpoint keeps."""
        try:
            return self.checkpoints.epochs(number) if self.checkpoints is not None else 0
        except UnreadableCheckpoint as error:
            self.notes.append(Noted(number, str(error)))
            return 0

    def forget_ahead(self, trial: TrialRecord) -> None:
        """Drop the checkpoint of a trial that is ahead of the ledger: its controller was killed between the two."""
        if self.checkpoints is not None and not trial.state.terminal and self.kept(trial.number) > trial.epochs:
            self.checkpoints.drop(trial.number)

    def _saved(self, number: int) -> States | None:
        """What the trial goes on from; its curve so far is taken from there, too."""
        states: States | None = None
        self.trials[number].curve = []
        if self.checkpoints is not None:
            try:
                states = self.checkpoints.load(number)
            except UnreadableCheckpoint as error:
                self.notes.append(Noted(number, str(error)))
        if states is not None:
            name = self.spec.objective.metric
            curve = curve_in(states, name, self.spec.train_config(self.dataset.task, {}))
            self.trials[number].curve = [self.units.get(name, 1.0) * value for value in curve]
        return states

    def outcomes(self, result: LegResult) -> Settled:
        """What a leg means for its trials, and where a batch decides together for others of theirs."""
        cut = (cut_at_failure(cut_at_explosion(trial)) for trial in result.trials)
        result = replace(result, trials=tuple(map(self.leaders.keep_under_way, cut)))
        for trial in result.trials:
            mine = self.trials[trial.number]
            self.pace.add(trial.seconds, (trial.epochs - trial.first_epoch) * self.rows_per_trial)
            mine.curve += trial.metrics.get(self.spec.objective.metric, [])
            mine.seconds += trial.seconds
            mine.folds, mine.parameters = trial.folds, trial.parameters
            if trial.how and not trial.first_epoch:
                self.notes.append(Noted(trial.number, f"{ONE_BY_ONE}{trial.how}"))
            if trial.kept is not None and trial.best_epoch is not None:
                mine.kept = {**trial.kept, BEST_EPOCH: trial.best_epoch}
        settled = self.decisions.take(result, self.requested)
        ended = {o.number: o for o in settled.outcomes if o.verdict in (Verdict.COMPLETE, Verdict.PRUNED)}
        settled.reports = [
            self._concluded(reported, ended[reported.number], settled.weights) if reported.number in ended else reported
            for reported in settled.reports
        ]
        return settled

    def stopped_with(self, number: int) -> dict[str, float] | None:
        """What a trial under way stands with if it is stopped now: the metrics of the epoch that it has kept."""
        mine = self.trials.get(number)
        if mine is None or not mine.kept or not self.keeps_best:
            return None
        metrics = {**self._costs(number), **mine.kept}
        self._judge(mine, metrics)
        return metrics

    def _concluded(self, reported: Reported, outcome: LegOutcome, weights: Mapping[int, Arrays]) -> Reported:
        """With the last report of a trial that has ended, what it stands with as a whole.

        That is its kept epoch where it is complete, else its last one, with its costs and what ``examine`` finds.
        """
        number, reports = reported.number, reported.reports
        if not reports or reports[-1].epoch + 1 != outcome.epochs:
            return reported
        metrics, mine = {**reports[-1].metrics, **self._costs(number)}, self.trials[number]
        if outcome.verdict is Verdict.COMPLETE:
            metrics |= mine.kept or {}
            metrics |= of_folds(mine.folds)
            if self.examine is not None:
                metrics |= self.examine(number, self.params(number), weights[number])
        self._judge(mine, metrics)
        return replace(reported, metrics=metrics)

    def _costs(self, number: int) -> dict[str, float]:
        """What an ended trial cost: the size of its network, and its time in a sweep that may depend on time."""
        costs = {PARAMETERS: float(self.trials[number].parameters)}
        if not self.spec.search.deterministic:
            costs[SECONDS] = self.trials[number].seconds
        return costs

    def _judge(self, trial: TrialRun, metrics: Mapping[str, float]) -> None:
        """Keep what the objectives and constraints beyond the first objective are judged by."""
        if len(self.spec.objectives) > 1 or self.spec.constraints:
            trial.metrics = metrics

    def consider(self, number: int, value: float | None, weights: Arrays | None) -> bool:
        """Whether a complete trial is the best so far; then it is remembered."""
        if not self.keeps_best:
            return False
        trial = self.trials[number]
        return self.leaders.consider(number, trial, value, weights, trial.seconds / self.rows_per_trial)

    def consider_stopped(self, number: int, value: float | None, epochs: int) -> None:
        """A trial was stopped after so many ``epochs``: while none is complete, the best of these is the answer."""
        if self.keeps_best:
            self.leaders.consider_stopped(number, self.trials[number], value, epochs)
