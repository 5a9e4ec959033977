"""A running sweep that is a population: its members train the same number of epochs, wait for each other, and copy.

A member's row leaves its worker after every ``search.ready`` epochs. When all members that are left are there, the
worst of them go on from rows of the best with other hyperparameters (``sweeper.search.population``). What happened is
in the ledger with the reports of the last one to arrive: after a restart, the values of the epochs and each member's
history say who waits and what was decided. A row that was lost is trained again along its schedule.

A member that diverges waits, too: the epochs that it misses until then are reported without metrics, so that it is the
worst, and it goes on as a copy of another. It fails where no copies are made any more, or nobody is left to copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sweeper.records import EpochReport, Found, Noted, Reported, TrialRecord
from sweeper.running.batches import Settled
from sweeper.running.checkpoints import States
from sweeper.running.decisions import Decisions
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import LegOutcome, RunLeg, Suggestion, Verdict
from sweeper.search.population import Copy, Population
from sweeper.search.pruning import Objective
from sweeper.spec.phases import Phase, Schedule, attributes_of, history_in
from sweeper.states import Cause, TrialState
from sweeper.training.legs import LegOrder, LegResult, TrialStart, epochs_in
from sweeper.training.pool import Order

WAITS = "it waits for the others of its population"
SAVE_SECONDS = 20.0  # of legs since its row was saved, after which a member that waits is worth a checkpoint
NOBODY = "diverged, and no member of its population is left that it could copy"


@dataclass
class _Member:
    """What is known of a member besides its curve: its attempt, its own history, and its row where it last paused.

    ``seconds`` are those of the legs that led to its row, ``saved`` those that its last checkpoint has.
    """

    attempt: int = 0
    history: Schedule = ()
    states: States | None = None
    seconds: float = 0.0
    saved: float = 0.0


@dataclass
class PopulationRun(SweepRun):
    """A sweep whose trials are the members of one population."""

    _members: dict[int, _Member] = field(init=False, default_factory=dict)
    _waiting: dict[int, int] = field(init=False, default_factory=dict)  # number -> epochs at which it waits
    _decided: set[int] = field(init=False, default_factory=set)  # epochs after which the copies were made

    def __post_init__(self) -> None:
        super().__post_init__()
        goal, epochs = self.spec.objective, self.spec.training.epochs
        objective = Objective(goal.metric, goal.direction, epochs)
        self._population = Population(self.spec.space, self.spec.search.seed, objective)

    def _make_decisions(self) -> Decisions:
        """No member is stopped."""
        ready = self.spec.search.ready
        assert ready is not None
        return Decisions(self.spec, self.trials, None, tuple(range(ready, self.spec.training.epochs, ready)))

    @property
    def waits(self) -> bool:
        """As ``SweepRun``."""
        return True

    @property
    def paused(self) -> frozenset[int]:
        """As ``SweepRun``."""
        return frozenset(self._waiting)

    def restore(self, trials: list[TrialRecord], reports: Mapping[int, list[EpochReport]]) -> None:
        """As ``SweepRun``; where nobody has decided yet, members wait again."""
        metric = self.spec.objective.metric
        firsts = [_as_it_began(trial) for trial in trials]
        super().restore(firsts, reports)
        for trial in trials:
            if trial.params is None:
                continue
            history, mine = history_in(trial.attributes) if trial.epochs else (), self.trials[trial.number]
            self._members[trial.number] = _Member(trial.attempt, history)
            mine.params = trial.params if history else mine.params
            mine.curve = [report.metrics.get(metric, math.nan) for report in reports.get(trial.number, [])]
            if trial.state is TrialState.RUNNING:
                mine.curve = mine.curve[: self.kept(trial.number)]
            if not trial.state.terminal:
                self._member(trial.number).states = self._of_its_donor(trial.number)
            self._decided |= {phase.epoch for phase in history if phase.epoch > 0}
            self._decided |= {epochs for epochs in self.decisions.epochs if epochs < trial.epochs}
        for trial in trials:
            there = trial.number in self._members and trial.state is TrialState.WAITING and trial.epochs
            if there and trial.epochs in self.decisions.epochs and trial.epochs not in self._decided:
                self._waiting[trial.number] = trial.epochs

    def schedule(self, number: int) -> Schedule:
        """As ``SweepRun``."""
        return self.trials[number].schedule or (Phase(0, self.params(number)),)

    def order(self, leg: RunLeg, export: bool = False) -> LegOrder:
        """As ``SweepRun``; members leave where they wait, and come back with the row that they had then."""
        order = super().order(leg, export)
        assert isinstance(order, LegOrder)
        for admit in leg.admit:
            member = self._member(admit.number)
            member.attempt = admit.attempt
            if admit.attempt > 1 and not self.trials[admit.number].curve:
                params = dict(self.params(admit.number))
                self.notes.append(Found(admit.number, admit.attempt, params, {}))  # of before it started over
        starts = tuple(map(self._from_its_row, order.admit))
        return replace(order, admit=starts, pauses=self.decisions.epochs)

    def _from_its_row(self, start: TrialStart) -> TrialStart:
        """With the row of its own or its donor's that it goes on from, else with the epochs to train again."""
        states, epochs = self._member(start.number).states, len(self.trials[start.number].curve)
        if start.states is None and states is not None and epochs_in(states) == epochs:
            return replace(start, states=states)
        return replace(start, replay=epochs)

    def _of_its_donor(self, number: int) -> States | None:
        """The checkpoint of the member whose row it goes on from, if that has not trained on since."""
        history, saved, epochs = self._member(number).history, self.checkpoints, self._epochs(number)
        donor = history[-1].copied if history and history[-1].epoch == epochs else None
        if saved is None or donor is None or super().kept(donor) != epochs:
            return None
        return saved.load(donor)

    def forget_ahead(self, trial: TrialRecord) -> None:
        """As ``SweepRun``."""
        super().forget_ahead(trial)
        if trial.state is TrialState.RUNNING and trial.number in self.trials:
            mine = self.trials[trial.number]
            mine.curve = mine.curve[: self.kept(trial.number)]

    def kept(self, number: int) -> int:
        """As ``SweepRun``: the epochs of its checkpoint, or those after which it last waited."""
        waited = max((epochs for epochs in self.decisions.epochs if epochs <= self._epochs(number)), default=0)
        return max(super().kept(number), waited)

    def _saved(self, number: int) -> States | None:
        mine = self.trials[number]
        curve = mine.curve
        states = super()._saved(number)
        if states is not None and self.checkpoints is not None and self.checkpoints.epochs(number) != len(curve):
            states = None  # of before it copied another
        mine.curve = curve
        return states

    def wait_again(self, number: int) -> None:
        """As ``SweepRun``; what a member had trained before it last waited counts."""
        if number not in self.trials:
            return
        mine = self.trials[number]
        curve, kept = mine.curve[: self.kept(number)], mine.kept
        super().wait_again(number)
        mine.curve, mine.kept = curve, kept

    def end(self, number: int, state: TrialState, value: float | None, cause: Cause | None = None) -> None:
        """As ``SweepRun``."""
        super().end(number, state, value, cause)
        self._member(number).states = None

    def outcomes(self, result: LegResult) -> Settled:
        """As ``SweepRun``."""
        states = {trial.number: trial.states for trial in result.trials}
        settled = super().outcomes(result)
        firsts = {trial.number: trial.first_epoch for trial in result.trials}
        for number in firsts:
            self._member(number).seconds += result.seconds
        found = []
        for outcome in settled.outcomes:
            number, epochs, reason = outcome.number, outcome.epochs, WAITS
            until = min((at for at in self.decisions.epochs if at > firsts[number]), default=None)
            if outcome.cause is Cause.DIVERGED and until is not None and until not in self._decided:
                self._miss(outcome, until, settled)
                epochs, reason = until, f"{outcome.reason}; it waits to copy another"
            elif outcome.verdict is not Verdict.CONTINUE or epochs not in self.decisions.epochs:
                found.append(outcome)
                continue
            self._member(number).states = states[number]
            self._waiting[number] = epochs
            self._save(number)
            found.append(LegOutcome(number, outcome.attempt, epochs, Verdict.PAUSED, reason))
        ended = {o.number for o in found if o.verdict in (Verdict.COMPLETE, Verdict.FAILED)}
        settled.outcomes = found
        self._decide(settled, ended)
        return settled

    def _save(self, number: int) -> None:
        """Write the row of a member that waits, if to train it again would take long; without disk space it is not."""
        member = self._member(number)
        if self.checkpoints is None or member.states is None or member.seconds - member.saved < SAVE_SECONDS:
            return
        try:
            self.checkpoints.save(number, member.states)
            member.saved = member.seconds
        except OSError as error:
            self.notes.append(Noted(number, f"its row could not be saved: {error}"))

    def _miss(self, outcome: LegOutcome, until: int, settled: Settled) -> None:
        """A member has diverged: the epochs that it does not train ``until`` the next copies have no metrics."""
        number, mine = outcome.number, self.trials[outcome.number]
        del mine.curve[outcome.epochs :]
        mine.curve += [math.nan] * (until - len(mine.curve))
        mine.kept = None
        missed = tuple(EpochReport(epoch, {}) for epoch in range(outcome.epochs, until))
        settled.reports.append(Reported(number, outcome.attempt, missed, 0.0))
        settled.changes.append(Noted(number, f"{outcome.reason}: after epoch {until} it copies another member"))

    def settle(self) -> Settled:
        """As ``SweepRun``."""
        settled = Settled()
        self._decide(settled, set())
        return settled

    def _decide(self, settled: Settled, ended: set[int]) -> None:
        """Let those go on that wait for nobody any more."""
        for epochs in sorted(set(self._waiting.values())):
            there = [n for n, at in self._waiting.items() if at == epochs]
            if epochs not in self._decided:
                gone = {n for n, trial in self.trials.items() if trial.ended} | ended
                if any(self._epochs(n) < epochs for n in range(self.requested) if n not in gone):
                    continue
                self._decided.add(epochs)
                values = {n: trial.curve[epochs - 1] for n, trial in self.trials.items() if len(trial.curve) >= epochs}
                params = {n: self.trials[n].params or {} for n in values}
                copies = self._population.decide(values, params, epochs)
                self._copy({n: copy for n, copy in copies.items() if n in there}, epochs, settled)
                lost = [n for n in there if n not in copies and not math.isfinite(values[n])]
                failed = (Verdict.ABANDONED, NOBODY, None, Cause.DIVERGED)
                settled.outcomes += [LegOutcome(n, self._member(n).attempt, epochs, *failed) for n in lost]
                for number in lost:
                    there.remove(number)
                    del self._waiting[number]
            for number in there:
                del self._waiting[number]
            settled.going_on += tuple(Suggestion(number, self.shape(number)) for number in sorted(there))

    def _copy(self, copies: Mapping[int, Copy], epochs: int, settled: Settled) -> None:
        rows = {n: (self.schedule(copy.donor), self._member(copy.donor).states) for n, copy in copies.items()}
        for number, copy in copies.items():
            mine, member, (schedule, states) = self.trials[number], self._member(number), rows[number]
            own = member.history or (Phase(0, mine.params or {}),)
            member.history = (*own, Phase(epochs, copy.params, copy.donor))
            mine.schedule = (
                *(phase for phase in schedule if phase.epoch < epochs),
                Phase(epochs, copy.params, copy.donor),
            )
            mine.params, member.states = copy.params, states
            member.seconds, member.saved = self._member(copy.donor).seconds, 0.0
            if self.checkpoints is not None:
                self.checkpoints.drop(number)
            attributes = attributes_of(member.history, mine.schedule)
            settled.changes.append(Found(number, member.attempt, copy.params, attributes))

    def _epochs(self, number: int) -> int:
        return len(self.trials[number].curve) if number in self.trials else 0

    def _member(self, number: int) -> _Member:
        return self._members.setdefault(number, _Member())


def seconds_again(run: SweepRun, order: Order) -> float:
    """What the epochs took that a leg trains again, when they were trained first."""
    starts = order.admit if isinstance(order, LegOrder) else ()
    return sum(run.trials[start.number].seconds for start in starts if start.replay and start.states is None)


def _as_it_began(trial: TrialRecord) -> TrialRecord:
    """The trial with the parameters that the sampler gave it, without what it learnt where its epochs are gone."""
    history = history_in(trial.attributes)
    if not history:
        return trial
    attributes = trial.attributes if trial.epochs else {}
    return replace(trial, params=history[0].params, attributes=attributes)
