"""Many trials with results at once: what scheduler, ledger and pruner cost a trial, tenth by tenth.

    python -m benchmarks.many 20000 --epochs 20 --pruner median
    python -m benchmarks.many 300000

Two workers of 32 trials whose legs take no time, random search, a SQLite ledger, losses that fall with some noise.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from sweeper.data.loading import load
from sweeper.ledger.opening import open_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.records import Change, Suggested, SweepChanged
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.scheduling import events as ev
from sweeper.scheduling.changes import changes_of
from sweeper.scheduling.scheduler import Scheduler
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.states import SweepState
from sweeper.training.legs import LegResult, TrialLeg

ROWS, WINDOW = 32, 256
WORKERS = ("a", "b")
SPACE = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "weight_decay": {"float": [1e-6, 1e-2], "log": True},
    "activation": {"choice": ["relu", "tanh"]},
    "hidden_layers": {"value": [8]},
}


class Many:
    """One sweep between a scheduler and a ledger; CPU seconds are counted by part."""

    def __init__(self, spec: SweepSpec, ledger: Ledger) -> None:
        dataset = load(spec)
        self._ledger, self._epochs = ledger, spec.training.epochs
        self._sweep = ledger.create_sweep(spec.name, spec.to_json(), spec.search.trials).sweep
        ledger.commit(self._sweep, [SweepChanged(state=SweepState.RUNNING, at=time.time())])
        self.run = SweepRun(ledger.sweep(self._sweep), spec, dataset, make_study(spec, dataset))
        self._scheduler = Scheduler(lambda worker, sweep, shape: ROWS)
        trials = tuple(ledger.trials(self._sweep))
        opened = ev.SweepOpened(self.run.plan, trials, {})
        self._queue: deque[ev.Event] = deque([*map(ev.WorkerJoined, WORKERS), opened])
        self._random = random.Random(0)
        self._attempts: dict[int, int] = {}
        self.ended = self.pruned = self.trained = 0
        self.cpu = {"scheduler": 0.0, "ledger": 0.0, "decisions": 0.0, "suggestions": 0.0}

    def steps(self) -> Iterator[None]:
        """Event by event until every trial has ended."""
        while self._queue:
            event = self._queue.popleft()
            changes: list[Change] = []
            if isinstance(event, ev.TrialsSuggested):
                named = ((one.number, self.run.trials[one.number]) for one in event.suggestions)
                changes += [Suggested(number, trial.params or {}, trial.seed) for number, trial in named]
            elif isinstance(event, ev.LegDone):
                event, changes = self._judged(event)
            began = time.process_time()
            actions = self._scheduler.handle(event)
            self._count("scheduler", began)
            changes += [change for action in actions for _, change in changes_of(action, time.time())]
            began = time.process_time()
            if changes:
                self._ledger.commit(self._sweep, changes)
            self._count("ledger", began)
            for action in actions:
                self._act(action)
            yield

    def _act(self, action: ev.Action) -> None:
        if isinstance(action, ev.Ask):
            began = time.process_time()
            given = self.run.ask(self.run.results_to_tell(), action.numbers)
            suggestions = tuple(map(self.run.suggested, action.numbers, given))
            self._count("suggestions", began)
            self._queue.append(ev.TrialsSuggested(self._sweep, suggestions))
        elif isinstance(action, ev.RunLeg):
            self._attempts |= {admit.number: admit.attempt for admit in action.admit}
            self._queue.append(ev.LegDone(action.worker, action.leg, ()))
        elif isinstance(action, ev.EndTrial):
            self.run.end(action.number, action.state, action.value, action.cause)
            self.ended += 1
            self.pruned += action.state.value == "pruned"

    def _judged(self, event: ev.LegDone) -> tuple[ev.LegDone, list[Change]]:
        """What a worker's rows did in a leg of one epoch, or of all where nothing is decided in between."""
        rows = sorted(self._scheduler.board.workers[event.worker].rows)
        legs = tuple(self._trained(number) for number in rows)
        self.trained += sum(leg.epochs - leg.first_epoch for leg in legs)
        began = time.process_time()
        settled = self.run.outcomes(LegResult(event.leg, legs, 0.01))
        self._count("decisions", began)
        return replace(event, outcomes=tuple(settled.outcomes)), [*settled.changes, *settled.reports]

    def _trained(self, number: int) -> TrialLeg:
        done = len(self.run.trials[number].curve)
        until = self._epochs if not self.run.decisions.epochs else done + 1
        level = random.Random(number).uniform(0.05, 0.5)
        losses = [level + 1 / (1 + epoch) + self._random.gauss(0, 0.02) for epoch in range(done, until)]
        metrics = {"val_loss": losses, "train_loss": losses, "val_accuracy": [0.5] * len(losses)}
        return TrialLeg(number, self._attempts[number], done, metrics, until == self._epochs, None, 0.01, parameters=67)

    def _count(self, part: str, began: float) -> None:
        self.cpu[part] += time.process_time() - began


def main() -> None:
    """Print what each tenth cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=int)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--pruner", default="none")
    options = parser.parse_args()
    search = {"trials": options.trials, "sampler": "random", "window": WINDOW, "pruner": options.pruner}
    file = {"dataset": {"name": "iris"}, "space": SPACE, "training": {"epochs": options.epochs}, "search": search}
    with tempfile.TemporaryDirectory() as folder, closing(open_ledger(None, Path(folder))) as ledger:
        many = Many(load_spec(file), ledger)
        tenth, before, wall, parts = options.trials / 10, 0, time.perf_counter(), dict(many.cpu)
        trained = 0
        for _ in many.steps():
            if (many.ended < before + tenth and many.ended < options.trials) or many.ended == before:
                continue
            count, now = many.ended - before, time.perf_counter()
            costs = ", ".join(f"{part} {1000 * (many.cpu[part] - parts[part]) / count:.3f}" for part in parts)
            epochs, rate = (many.trained - trained) / count, count / (now - wall)
            print(f"{many.ended:,} ended: {costs} ms of CPU a trial of {epochs:.1f} epochs; {rate:.0f} trials a second")
            before, wall, parts, trained = many.ended, now, dict(many.cpu), many.trained
        size = sum(file.stat().st_size for file in Path(folder).glob("ledger.db*")) / 1e6
        print(f"{many.pruned:,} pruned, {many.trained:,} epochs, ledger {size:.0f} MB")


if __name__ == "__main__":
    main()
