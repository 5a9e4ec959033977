"""Sweeps that have ended, in any ledger, with curves that look like training; what a tracker has to show."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.ledger.protocol import Ledger
from sweeper.records import Change, Ended, EpochReport, Reported, Started, Suggested, SweepChanged, SweepRecord
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.states import Cause, SweepState, TrialState

BEGAN = 1_700_000_000.0
EPOCHS = 20
REASONS = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "worse than the median of its rivals",
    TrialState.FAILED: "diverged: val_loss is not finite",
    TrialState.STOPPED: "stopped by the user",
}
CAUSES = {TrialState.FAILED: Cause.DIVERGED, TrialState.STOPPED: Cause.STOPPED}


@dataclass(frozen=True)
class TableStub:
    """As much of a dataset as a tracker needs that logs no model."""

    task: str = "classification"


def spec_of(name: str = "demo", space: Any = "mlp", trials: int = 4, **sections: Any) -> SweepSpec:
    """A valid spec."""
    sections.setdefault("dataset", {"name": "iris"})
    return load_spec({"name": name, "space": space, "search": {"trials": trials, "sampler": "random"}, **sections})


def new_sweep(ledger: Ledger, spec: SweepSpec) -> SweepRecord:
    """The sweep of a spec, running, none of its trials started."""
    record = ledger.create_sweep(spec.name, spec.to_json(), spec.search.trials)
    ledger.commit(record.sweep, [SweepChanged(state=SweepState.RUNNING, at=BEGAN)])
    return ledger.sweep(record.sweep)


def end_trials(
    ledger: Ledger,
    sweep: str,
    numbers: Sequence[int],
    states: Mapping[int, TrialState] | None = None,
    epochs: int = EPOCHS,
    task: str = "classification",
) -> None:
    """Bring trials from waiting to an end (complete, unless ``states`` says otherwise)."""
    before = {trial.number: trial for trial in ledger.trials(sweep, numbers=list(numbers))}
    changes: list[Change] = []
    for number in numbers:
        state = (states or {}).get(number, TrialState.COMPLETE)
        params = params_of(number)
        attempt = before[number].attempt + 1
        done = epochs if state is TrialState.COMPLETE else epochs // 2
        reports = curves(params, number, done, task)
        if reports:  # a trial's last report says what its network costs
            last = reports[-1]
            reports[-1] = EpochReport(last.epoch, {**last.metrics, "parameters": 100.0 + 37 * (number % 50)})
        began = BEGAN + 2.0 * number
        value = reports[-1].metrics["val_loss"] if state is TrialState.COMPLETE else None
        if before[number].params is None:
            changes.append(Suggested(number, params, seed=0))
        changes += [
            Started(number, attempt, "worker-0", began),
            Reported(number, attempt, tuple(reports), seconds=1.5),
            Ended(number, attempt, state, REASONS[state], value, began + 1.5, CAUSES.get(state)),
        ]
    assert not ledger.commit(sweep, changes)


def params_of(number: int) -> dict[str, Any]:
    """The same point for the same number, within the ``mlp`` space."""
    draw = random.Random(number)
    optimizer = draw.choice(["sgd", "momentum", "rmsprop", "adam", "adamw"])
    params: dict[str, Any] = {"learning_rate": 10 ** draw.uniform(-4, -1), "optimizer": optimizer}
    if optimizer == "momentum":
        params["momentum"] = draw.uniform(0.5, 0.99)
    params["initialization"] = draw.choice(["normal", "xavier_uniform", "he_uniform"])
    params["weight_decay"] = 10 ** draw.uniform(-6, -2)
    params["activation"] = draw.choice(["relu", "tanh", "sigmoid"])
    return {**params, "hidden_layers": [128, 128]}


def curves(params: Mapping[str, Any], number: int, epochs: int, task: str) -> list[EpochReport]:
    """A loss that falls towards a floor, the lower the nearer the learning rate is to 1e-2."""
    draw = random.Random(number)
    rate = params["learning_rate"]
    floor = 0.05 + 0.2 * abs(math.log10(rate) + 2) + 0.1 * (params["activation"] == "sigmoid")
    reports = []
    for epoch in range(epochs):
        loss = floor + 2.2 * math.exp(-0.3 * (epoch + 1)) + draw.uniform(0, 0.02)
        last = {"val_accuracy": max(0.0, 1 - loss / 3)} if task == "classification" else {"val_rmse": math.sqrt(loss)}
        rate *= 0.5 if epoch == 12 else 1.0
        metrics = {"train_loss": 0.9 * loss, "val_loss": loss, **last, "learning_rate": rate, "grad_norm": 3 * loss}
        reports.append(EpochReport(epoch, metrics))
    return reports
