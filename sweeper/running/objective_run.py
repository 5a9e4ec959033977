"""A running sweep with an objective of the user's own: what its trials suggest, report and ask, and how they end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.records import EpochReport, Found, Noted, Reported, TrialRecord
from sweeper.running.batches import Settled
from sweeper.running.decisions import Decisions
from sweeper.running.run import SweepRun
from sweeper.running.trial import TrialRun
from sweeper.scheduling.events import LegOutcome, RunLeg, Shape, Suggestion, Verdict
from sweeper.search.objective_study import ObjectiveStudy
from sweeper.search.pruning import Judged, Objective, beginning, make_pruner
from sweeper.spec.goals import VALUE
from sweeper.spec.objective_file import ResourcesSpec
from sweeper.states import Cause, TrialState
from sweeper.tracking.trial_files import TrialFiles
from sweeper.training.legs import LegResult
from sweeper.training.objective_legs import ObjectiveLeg, ObjectiveOrder
from sweeper.training.objective_words import Ended, ObjectiveStart
from sweeper.training.pool import Device

LEG_SECONDS = 1.0
ENDLESS = 1_000_000_000  # epochs of a trial of which nobody knows how often it reports
_SHAPE = Shape((), 1, ENDLESS)
_WHOLE = ("median", "percentile")  # pruners that compare with complete trials only
_VERDICTS = {"complete": Verdict.COMPLETE, "pruned": Verdict.PRUNED, "failed": Verdict.FAILED}


@dataclass
class _Under:
    """A trial under way: where it runs, the answer that waits for it, and why its pruner stops it."""

    worker: str = ""
    answer: bool | None = None
    why: str = ""
    judged: int = 0  # reports that the pruner has seen
    steps: list[int] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class ObjectiveRun(SweepRun):
    """A sweep whose trials are calls of a function of the user's own. It has no data, network or finals.

    ``files`` keeps what its trials print and the files that they give.
    """

    files: TrialFiles | None = None
    _under: dict[int, _Under] = field(init=False, default_factory=dict)
    _complete: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.leaders.reserve = None

    def _make_decisions(self) -> Decisions:
        goal, name = self.spec.objective, self.spec.search.pruner
        epochs = 1 if name in _WHOLE else goal.reports or ENDLESS
        pruner = make_pruner(
            name, options_of(name, goal.reports), objective=Objective(goal.metric, goal.direction, epochs)
        )
        assert not hasattr(pruner, "decide_batch")
        if name == "none":
            return Decisions(self.spec, self.trials, None, ())
        return Decisions(self.spec, self.trials, pruner, (1,))  # others are compared with: curves are kept

    @property
    def resources(self) -> ResourcesSpec:
        """What each trial takes."""
        return self.spec.resources or ResourcesSpec()

    @property
    def own_study(self) -> ObjectiveStudy:
        """The study, which is always of this kind."""
        assert isinstance(self.study, ObjectiveStudy)
        return self.study

    def slots(self, device: Device) -> int:
        """How many trials a worker runs at once."""
        return self.resources.at_once(device.cores, device.kind == "cuda")

    def restore(self, trials: list[TrialRecord], reports: Mapping[int, list[EpochReport]]) -> None:
        """Take up an interrupted sweep where the ledger says it is."""
        for trial in trials:
            if trial.params is not None and trial.attributes:
                self.own_study.describe(trial.number, dict(trial.params), trial.attributes.get("distributions", {}))
            if trial.state is TrialState.COMPLETE:
                self._complete.add(trial.number)
        super().restore(trials, reports)

    def shape(self, number: int) -> Shape:
        """All trials are alike to the scheduler."""
        return _SHAPE

    def suggested(self, number: int, params: Mapping[str, Any]) -> Suggestion:
        """Remember the values that a trial is given."""
        self.trials[number] = TrialRun(params, self.spec.search.seed)
        return Suggestion(number, _SHAPE)

    def order(self, leg: RunLeg, export: bool = False) -> ObjectiveOrder:
        """The worker's side of a scheduler's leg."""
        function = self.spec.objective.function
        assert function is not None
        for admit in leg.admit:
            self._under[admit.number] = _Under(leg.worker)
        answers = {}
        for number, under in self._under.items():
            if under.worker == leg.worker and under.answer is not None:
                answers[number], under.answer = under.answer, None
        starts = [
            ObjectiveStart(a.number, a.attempt, self.trials[a.number].seed, dict(self.params(a.number)))
            for a in leg.admit
        ]
        return ObjectiveOrder(
            leg=leg.leg,
            sweep=self.id,
            function=function,
            admit=tuple(starts),
            drop=leg.drop,
            answers=answers,
            seconds=LEG_SECONDS,
            prunes=self.decisions.pruner is not None,
            time_limit=self.spec.objective.time_limit,
            cpus=self.resources.cpus,
            gpus=self.resources.gpus,
        )

    def outcomes(self, result: LegResult) -> Settled:
        """What a leg means for its trials."""
        settled = Settled()
        for leg in result.trials:
            assert isinstance(leg, ObjectiveLeg)
            self._take(leg, settled)
        return settled

    def wait_again(self, number: int) -> None:
        """A trial was put back: it begins anew."""
        super().wait_again(number)
        self._under.pop(number, None)
        self._complete.discard(number)
        if self.files is not None:
            self.files.drop(number)

    def _take(self, leg: ObjectiveLeg, settled: Settled) -> None:
        number, mine = leg.number, self.trials[leg.number]
        under = self._under.setdefault(number, _Under())
        mine.seconds += leg.seconds
        self._keep(leg)
        if leg.params is not None:
            mine.params, under.attributes = leg.params, dict(leg.attributes)
            self.own_study.describe(number, dict(leg.params), leg.distributions)
            attributes = {"distributions": leg.distributions, "user_attrs": leg.attributes}
            settled.changes.append(Found(number, leg.attempt, leg.params, attributes))
        fresh = self._reports(under, mine, leg)
        end = leg.end
        metrics = None if end is None else self._whole(under, mine, end)
        if end is not None and end.state == "complete" and not under.steps:
            under.steps.append(0)
            fresh = (EpochReport(0, metrics or {}),)
        if fresh or metrics is not None:
            settled.reports.append(Reported(number, leg.attempt, fresh, mine.seconds if fresh else 0.0, metrics))
            mine.seconds = 0.0 if fresh else mine.seconds
        if leg.asks:
            under.answer = self._stops(number, under, mine)
        settled.outcomes.append(self._outcome_of(leg, under, mine))
        if end is not None:
            if end.trace:
                settled.changes.append(Noted(number, end.trace))
            if end.state == "complete":
                self._complete.add(number)
            del self._under[number]

    def _keep(self, leg: ObjectiveLeg) -> None:
        if self.files is not None:
            if leg.log:
                self.files.append(leg.number, leg.log)
            for artifact in leg.artifacts:
                self.files.keep(leg.number, artifact.name, artifact.content)

    def _reports(self, under: _Under, mine: TrialRun, leg: ObjectiveLeg) -> tuple[EpochReport, ...]:
        """The leg's reports under the steps that the trial has named, or the next ones where these do not rise."""
        found = []
        for step, value in zip(leg.steps, leg.metrics[VALUE], strict=True):
            at = step if not under.steps or step > under.steps[-1] else under.steps[-1] + 1
            under.steps.append(max(0, at))
            mine.curve.append(value)
            found.append(EpochReport(under.steps[-1], {VALUE: value}))
        return tuple(found)

    def _whole(self, under: _Under, mine: TrialRun, end: Ended) -> dict[str, float]:
        """What an ended trial stands with: its value, and its attributes that are numbers."""
        last = mine.curve[-1] if mine.curve else None
        value = end.value if end.state == "complete" else last
        numbers = {
            name: float(found)
            for name, found in under.attributes.items()
            if isinstance(found, int | float) and not isinstance(found, bool)
        }
        return numbers | ({} if value is None else {VALUE: value})

    def _stops(self, number: int, under: _Under, mine: TrialRun) -> bool:
        """The pruner's word on a trial that asks, for each report since it asked last."""
        pruner = self.decisions.pruner
        if pruner is None:
            return False
        peers: Mapping[int, list[float]] = self.decisions.peers(number, self.requested)
        if self.spec.search.pruner in _WHOLE:
            peers = {n: peers[n] for n in peers if n in self._complete}
        for epochs in range(under.judged + 1, len(mine.curve) + 1):
            under.judged = epochs
            decision = pruner.decide(Judged(number, mine.curve[:epochs], peers, None, mine.params or {}))
            if decision.stop:
                under.why = decision.reason
                return True
        return False

    def _outcome_of(self, leg: ObjectiveLeg, under: _Under, mine: TrialRun) -> LegOutcome:
        epochs = under.steps[-1] + 1 if under.steps else 0
        end, last = leg.end, mine.curve[-1] if mine.curve else None
        if end is None:
            return LegOutcome(leg.number, leg.attempt, epochs, Verdict.CONTINUE)
        value, cause, reason = None, None, end.reason
        if end.state == "complete":
            after = f" after {len(mine.curve)} reports" if mine.curve else ""
            value, reason = end.value, f"the function returned{after}"
        elif end.state == "pruned":
            value = last if last is not None and math.isfinite(last) else None
            reason = under.why or f"the function raised TrialPruned{': ' + end.reason if end.reason else ''}"
        else:
            cause = Cause.CODE
        return LegOutcome(leg.number, leg.attempt, epochs, _VERDICTS[end.state], reason, value, cause)


def options_of(pruner: str, reports: int | None) -> dict[str, float]:
    """When the pruner judges first; a trial of which nobody knows how often it reports, from its first report on."""
    first = beginning(reports) if reports else 1
    if pruner in _WHOLE:
        return {"warmup": first - 1}
    return {"first": first} if pruner == "asha" else {}
