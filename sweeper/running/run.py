"""One sweep while it runs: its data, study, curves and best trial, between the ledger's records and the workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from sweeper.data.recent import BYTES, MOST
from sweeper.flow import unpack_flow
from sweeper.insight.fused import ONE_BY_ONE
from sweeper.insight.noise import noise_of
from sweeper.records import EpochReport, Found, Noted, Reported, SweepRecord, TrialRecord
from sweeper.running.batches import BatchDecisions, Settled, epoch_reports
from sweeper.running.checkpoints import Checkpoints, States, UnreadableCheckpoint
from sweeper.running.enough import Enough, enough_of
from sweeper.running.members import MemberPool
from sweeper.running.parts import window_and_batch
from sweeper.running.reserve import Reserve, reserve_of
from sweeper.running.trial import Curves, EndedBefore, TrialRun
from sweeper.scheduling.events import LegOutcome, RunLeg, Shape, Suggestion, SweepPlan, Verdict
from sweeper.scheduling.window import told_before
from sweeper.search.pruning import BatchPruner, Judged, Objective, OrderedCosts, Pruner, make_pruner
from sweeper.spec.goals import PARAMETERS, SECONDS, excesses_of, of_folds, values_of, violation
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import Phase, Schedule, attributes_of, schedule_in
from sweeper.states import Cause, TrialState
from sweeper.training.legs import (
    Arrays,
    LegOrder,
    LegResult,
    RowStart,
    TrialLeg,
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
TIME_SHARE = 0.1  # of a sweep's timeout that a CPU may need for a cohort
FIRST_ROWS = 2  # rows of a cohort of a sweep with a timeout, as long as its pace is not known
BEST_EPOCH = "best_epoch"  # metric of a complete trial: its best epoch, counted from 1; the mean over replicates


@dataclass
class Best:
    """The best complete trial so far, in the user's units; ``weights`` are None after a resume.

    ``beyond`` is how far it lies beyond the sweep's constraints (0: it satisfies them). ``refitted`` are the weights of
    the model that is kept with ``winner: refit``, once it has been trained. ``again`` is the value that it came to when
    it was trained again (None: it was not, or that cannot be told). Of the best stopped trial of a sweep without a
    complete one, ``stopped_after`` are its epochs.
    """

    number: int
    value: float
    weights: Arrays | None = None
    beyond: float = 0.0
    refitted: Arrays | None = None
    again: float | None = None
    stopped_after: int | None = None


class Examine(Protocol):
    """What finals want to know of a trial that has trained to its end, besides what its epochs have reported."""

    def __call__(self, number: int, params: Mapping[str, Any], weights: Arrays) -> Mapping[str, float]:
        """More metrics for the trial's last epoch."""
        ...


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
    best: Best | None = None
    under_way: Best | None = None  # of the trials that go on, as long as none is complete
    baselines: BaselineWork | None = None
    requested: int = 0
    checkpoints: Checkpoints | None = None
    members: MemberPool | None = None  # with ``winner: ensemble``
    pruner: Pruner | None = field(init=False, default=None)  # None: there is one that decides batches
    batches: BatchDecisions | None = field(init=False, default=None)
    decision_epochs: tuple[int, ...] = field(init=False)
    notes: list[Noted | Found] = field(default_factory=list)  # for the ledger
    trained: tuple[float, int] = (0.0, 0)  # seconds of a worker, and epochs of rows in them
    enough: Enough | None = field(init=False)  # None: the search does not end before its trials have
    reserve: Reserve | None = field(init=False)  # None: there is nothing to keep time for
    _ordered: OrderedCosts = field(init=False)  # of ended trials, for the pruner
    _untold: dict[int, Outcome] = field(init=False, default_factory=dict)  # for the study

    def __post_init__(self) -> None:
        self.requested, self.enough = self.record.requested, enough_of(self.spec)
        self.reserve = reserve_of(self.spec)
        goal = self.spec.objective
        epochs = self.spec.training.epochs
        pruner = make_pruner(self.spec.search.pruner, objective=Objective(goal.metric, goal.direction, epochs))
        self.decision_epochs = tuple(pruner.legs(epochs))
        self._ordered = OrderedCosts(Curves(self.trials))
        if isinstance(pruner, BatchPruner):
            self.batches = BatchDecisions(pruner, self.plan.batch, epochs, self.trials)
        else:
            self.pruner = pruner

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.record.sweep

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
            decision_epochs=self.decision_epochs,
            rows_per_trial=self.spec.training.replicates * len(self._folds(0)),
            priority=self.record.priority,
            owner=self.record.owner,
            arithmetic=self.record.arithmetic,
            compiled=self.spec.is_compiled,
            mixed=self.is_mixed,
        )

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
                noise = noise_of(trial.metrics)
                outcome = self._study_outcome(trial.number, trial.state, trial.value, trial.cause, noise)
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
        self._untold[number] = self._study_outcome(number, state, value, cause, noise)
        if not self.decision_epochs:  # nobody will compare another trial with it
            trial.curve = []

    def _study_outcome(
        self, number: int, state: TrialState, value: float | None, cause: Cause | None, noise: float
    ) -> Outcome:
        from sweeper.search.study import Outcome

        trial, goals, limits = self.trials[number], self.spec.objectives, self.spec.constraints
        finite = [(epoch, v) for epoch, v in enumerate(trial.curve) if math.isfinite(v)]
        values = values_of(trial.metrics, goals) if len(goals) > 1 else ()
        excesses = excesses_of(trial.metrics, limits) if state is TrialState.COMPLETE else ()
        return Outcome(state, value, finite[-1] if finite else None, cause is Cause.DIVERGED, values, excesses, noise)

    def forget_search(self) -> None:
        """The search is over: free what only it needs, before the report wants memory.

        Of the trials the best and the candidates of an ensemble stay.
        """
        del self.study
        self._untold.clear()
        asked = set() if self.members is None else set(self.members.numbers)
        if self.best is not None:
            asked.add(self.best.number)
        self.trials = {number: self.trials[number] for number in sorted(asked)}
        self._ordered, self.batches = OrderedCosts(Curves(self.trials)), None

    def wait_again(self, number: int) -> None:
        """A trial was put back: it trains from its checkpoint, or from the beginning."""
        self._untold.pop(number, None)
        if number in self.trials:
            self.trials[number].start_over()
        self._ordered.forget(number)
        if self.batches is not None:
            self.batches.forget(number)

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
            keep_better_than=self._value_to_beat,
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
        return self.batches is not None

    @property
    def paused(self) -> frozenset[int]:
        """The trials that wait for others of their population."""
        return frozenset()

    def settle(self) -> Settled | None:
        """What is settled about trials that waited for one that has ended without a leg (None: none waits)."""
        return None if self.batches is None else self.batches.settle(self.requested)

    @property
    def _value_to_beat(self) -> float | None:
        """The value that a trial has to beat for its weights to be wanted; None: they are wanted anyway."""
        if self.members is None:
            return self.best.value if self.best and self.best.beyond <= 0 else None
        worst = self.members.worst
        return None if worst is None or worst[0] > 0 else self.spec.objective.sign * worst[1]

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
        result = replace(result, trials=tuple(map(self._keep_under_way, cut)))
        for trial in result.trials:
            mine = self.trials[trial.number]
            epochs = (trial.epochs - trial.first_epoch) * self.plan.rows_per_trial
            self.trained = (self.trained[0] + trial.seconds, self.trained[1] + epochs)
            mine.curve += trial.metrics.get(self.spec.objective.metric, [])
            mine.seconds += trial.seconds
            mine.folds, mine.parameters = trial.folds, trial.parameters
            if trial.how and not trial.first_epoch:
                self.notes.append(Noted(trial.number, f"{ONE_BY_ONE}{trial.how}"))
            if trial.kept is not None and trial.best_epoch is not None:
                mine.kept = {**trial.kept, BEST_EPOCH: trial.best_epoch}
        settled = self._settled(result)
        ended = {o.number: o for o in settled.outcomes if o.verdict in (Verdict.COMPLETE, Verdict.PRUNED)}
        settled.reports = [
            self._concluded(reported, ended[reported.number], settled.weights) if reported.number in ended else reported
            for reported in settled.reports
        ]
        return settled

    def speed(self, elapsed: float) -> float:
        """Seconds of training that one of the ``elapsed`` seconds of this process has brought; 1: nothing is known."""
        return self.trained[0] / elapsed if self.trained[0] > 0 and elapsed > 0 else 1.0

    def rows_in_time(self, shape: Shape, most: int) -> int:
        """How many rows a CPU trains side by side: at ``most`` that many, fewer in a sweep with a timeout.

        There a row gains nothing from its neighbours, and the time shall not end with many trials half-way.
        """
        timeout, (seconds, epochs) = self.spec.search.timeout, self.trained
        if timeout is None:
            return most
        if seconds == 0.0:
            return min(most, FIRST_ROWS * self.plan.rows_per_trial)
        return max(1, min(most, int(TIME_SHARE * timeout * epochs / (seconds * shape.epochs))))

    def _keep_under_way(self, trial: TrialLeg) -> TrialLeg:
        """The leg without the weights of a trial that goes on; they are kept if it is the best of these so far."""
        if trial.finished or trial.weights is None:
            return trial
        value = (trial.kept or {})[self.spec.objective.metric]
        sign, held = self.spec.objective.sign, self.under_way
        if held is None or (sign * value, trial.number) <= (sign * held.value, held.number):
            self.under_way = Best(trial.number, value, trial.weights)
        return replace(trial, weights=None)

    def stopped_with(self, number: int) -> dict[str, float] | None:
        """What a trial under way stands with if it is stopped now: the metrics of the epoch that it has kept."""
        mine = self.trials.get(number)
        if mine is None or not mine.kept or not self.keeps_best:
            return None
        metrics = {**self._costs(number), **mine.kept}
        self._judge(mine, metrics)
        return metrics

    def _settled(self, result: LegResult) -> Settled:
        if self.batches is not None:
            ends = [self._outcome(trial) for trial in result.trials]
            return self.batches.take(result.trials, ends, self.requested)
        settled = Settled(weights={trial.number: trial.weights for trial in result.trials if trial.weights is not None})
        for trial in result.trials:
            outcome = self._pruned(trial) or self._outcome(trial)
            settled.outcomes.append(outcome)
            kept = epoch_reports(trial)[: outcome.epochs - trial.first_epoch]
            settled.reports.append(Reported(trial.number, trial.attempt, kept, trial.seconds))
        return settled

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

    def undecided(self, number: int) -> bool:
        """Whether a trial has trained past a decision that its batch has not taken yet."""
        return self.batches is not None and self.batches.undecided(number)

    def _pruned(self, trial: TrialLeg) -> LegOutcome | None:
        """The pruner's stop at the first epoch of this leg at which it says so, wherever the leg ended."""
        mine = self.trials[trial.number]
        if self.pruner is None:
            return None
        for epochs in self.decision_epochs:
            if not trial.first_epoch < epochs <= len(mine.curve):
                continue
            curve, blob = mine.curve[:epochs], trial.flow.get(epochs - 1)
            flow = None if blob is None else unpack_flow(epochs - 1, blob)
            peers = self._peers(trial.number)
            decision = self.pruner.decide(Judged(trial.number, curve, peers, flow, self.params(trial.number)))
            if decision.stop:
                mine.curve = curve
                return LegOutcome(trial.number, trial.attempt, epochs, Verdict.PRUNED, decision.reason, curve[-1])
        return None

    def _peers(self, number: int) -> Curves:
        """The curves that a decision may see: in a deterministic sweep those that the suggestion saw, too."""
        if not self.spec.search.deterministic:
            return Curves(self.trials)
        window, batch = window_and_batch(self.spec, self.requested)
        return EndedBefore(self.trials, told_before(number, window, batch), self._ordered)

    def _outcome(self, trial: TrialLeg) -> LegOutcome:
        curve = self.trials[trial.number].curve
        last = curve[-1] if curve else None
        if trial.diverged is not None:
            finite = last is not None and math.isfinite(last)
            seen = f"; last finite {self.spec.objective.metric} {last:.6g}" if finite else ""
            reason = f"diverged: {trial.diverged}{seen}"
            how = (Verdict.FAILED, reason, None, Cause.DIVERGED)
            return LegOutcome(trial.number, trial.attempt, trial.epochs, *how)
        if trial.failed is not None:
            how = (Verdict.FAILED, trial.failed, None, trial.cause)
            return LegOutcome(trial.number, trial.attempt, trial.epochs, *how)
        if trial.finished:
            value = (trial.kept or {}).get(self.spec.objective.metric, last)
            reason = trained(trial, self.spec.training.epochs, self.spec.training.patience)
            return LegOutcome(trial.number, trial.attempt, trial.epochs, Verdict.COMPLETE, reason, value)
        return LegOutcome(trial.number, trial.attempt, trial.epochs, Verdict.CONTINUE)

    def consider(self, number: int, value: float | None, weights: Arrays | None) -> bool:
        """Whether a complete trial is the best so far (ties: the lower number); then it is remembered.

        Trials that satisfy the constraints come first, then those that are least beyond them.
        """
        if value is None or not math.isfinite(value) or not self.keeps_best:
            return False
        beyond = violation(excesses_of(self.trials[number].metrics, self.spec.constraints))
        sign = self.spec.objective.sign
        if self.reserve is not None:
            self.reserve.add((beyond, sign * value, number), self.trials[number].seconds / self.plan.rows_per_trial)
        if self.members is not None:
            self.members.add((beyond, sign * value, number), weights)
        if self.best is not None:
            held = (self.best.beyond, sign * self.best.value, self.best.number)
            if self.best.stopped_after is None and (beyond, sign * value, number) >= held:
                return False
        self.best, self.under_way = Best(number, value, weights, beyond), None
        return True

    def consider_stopped(self, number: int, value: float | None, epochs: int) -> None:
        """A trial was stopped after so many ``epochs``: while none is complete, the best of these is the answer."""
        if value is None or not math.isfinite(value) or not self.keeps_best:
            return
        if self.best is not None and self.best.stopped_after is None:
            return
        beyond = violation(excesses_of(self.trials[number].metrics, self.spec.constraints))
        sign = self.spec.objective.sign
        if self.best is None or (beyond, sign * value, number) < (
            self.best.beyond,
            sign * self.best.value,
            self.best.number,
        ):
            led = self.under_way
            weights = led.weights if led is not None and (led.number, led.value) == (number, value) else None
            self.best = Best(number, value, weights, beyond, stopped_after=epochs)


def trained(trial: TrialLeg, epochs: int, patience: int | None) -> str:
    """The reason of a complete trial, of at most ``epochs`` epochs."""
    reason = f"trained {trial.epochs} epochs"
    if trial.best_epoch is not None and trial.best_epoch < trial.epochs:
        reason += f", best was {trial.best_epoch:.3g}"
    return f"{reason} (patience {patience})" if trial.epochs < epochs else reason


def final_weights(run: SweepRun, trial: TrialRecord) -> Arrays:
    """The weights of the model that is kept: the best trial's, or with ``winner: refit`` those of all folds' rows."""
    from sweeper.training.again import refit

    assert run.best is not None
    if run.spec.winner != "refit":
        return winner_weights(run)
    if run.best.refitted is None:
        run.best.refitted = refit(run.spec, run.dataset, trial)
    return run.best.refitted


def winner_weights(run: SweepRun) -> Arrays:
    """The best trial's weights by parameter name, of several folds as ``sweeper.data.folds.joined`` has them.

    A worker sends weights with a trial that becomes the best. After a resume they are gone with the old process.
    """
    from sweeper.training.again import train_again, value_again, weights_of

    assert run.best is not None
    if run.best.weights is None:
        params, seed = run.params(run.best.number), run.trials[run.best.number].seed
        histories = train_again(
            run.spec, run.dataset, params, seed, run.best.stopped_after, run.schedule(run.best.number)
        )
        run.best.weights, run.best.again = (
            weights_of(histories),
            value_again(run.spec, run.dataset, params, histories),
        )
    return run.best.weights
