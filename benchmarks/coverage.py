"""Whether what finals state holds on new rows: on simulated finals, and on networks trained on small tables."""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.results import Table
from benchmarks.simulated_finals import Case, Counts, simulate

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.insight.finals import FinalsOutcome

ROWS = (300, 900, 5_000, 20_000)
SIMULATED = ("loss", "accuracy", "mse")
DRAWN = ((300, 3), (900, 3))  # rows and seeds of finals that are judged by drawing rows again
DESIGNS = ((3, 2, 0.1), (4, 3, 0.05), (5, 5, 0.1), (3, 10, 0.2))  # finalists, seeds, effect of a seed
GAP = 0.2
FINALS = 40  # of each kind
TABLES, TABLE_ROWS, FRESH_ROWS, TRUE_SEEDS = 20, 900, 100_000, 20


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both parts; the second takes some minutes."""
    rows = ROWS[:2] if options.quick else ROWS
    finals = 2 if options.quick else FINALS
    return {"simulated": simulated(rows, finals), "tables": tables_part(2 if options.quick else TABLES)}


def simulated(rows: Iterable[int], finals: int) -> list[dict[str, Any]]:
    """Counts by metric, rows, seeds and whether the finalists are equally good."""
    found, wanted = [], set(rows)
    cases = [(m, n, design) for m, n, design in itertools.product(SIMULATED, sorted(wanted), DESIGNS)]
    cases += [("rmse", n, (3, seeds, 0.1)) for n, seeds in DRAWN if n in wanted]
    for seed, (metric, n, (finalists, seeds, effect)) in enumerate(cases):
        for gap in (0.0, GAP):
            case = Case(metric, (0.0, *[gap] * (finalists - 1)), seeds, n, effect)
            counts = simulate(case, finals, seed)
            about = {"metric": metric, "rows": n, "finalists": finalists, "seeds": seeds, "tie": gap == 0.0}
            found.append({**about, **vars(counts)})
    return found


def tables_part(count: int) -> dict[str, Any]:
    """Real sweeps with finals on small tables from known populations, half classes, half numbers."""
    counts, widths = Counts(), []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SWEEPER_HOME"] = str(Path(scratch, "home"))
        for number in range(count):
            outcome, truth = one_table(Path(scratch), number)
            first = outcome.standings[0]
            counts.finals += 1
            counts.covered += first.low <= truth[first.trial] <= first.high
            widths.append((first.high - first.low) / first.mean)
            counts.sole += len(outcome.leaders) == 1
            counts.false_sole += len(outcome.leaders) == 1 and min(truth, key=truth.__getitem__) != first.trial
            wrong = [p for p in outcome.comparisons if p.different and _gap(truth, p) * p.difference <= 0]
            counts.false_families += bool(wrong)
            counts.told_apart += sum(p.different for p in outcome.comparisons) - len(wrong)
            counts.apart += len(outcome.comparisons)
    return {**vars(counts), "width": float(np.mean(widths))}


def _gap(truth: Mapping[int, float], pair: Any) -> float:
    return truth[pair.first] - truth[pair.second]


def one_table(scratch: Path, number: int) -> tuple[FinalsOutcome, dict[int, float]]:
    """The finals' outcome on one table, and each finalist's true loss: its mean over fresh rows and seeds."""
    import sweeper
    from sweeper.data.dataset import load_dataset
    from sweeper.insight.finals import read_finals
    from sweeper.ledger.opening import open_ledger
    from sweeper.spec.stored import spec_of

    table = population(number)
    file = scratch / f"table-{number}.csv"
    table.head(TABLE_ROWS).to_csv(file, index=False)
    given = {
        "name": f"table-{number}",
        "dataset": {"path": str(file), "target": "y"},
        "space": {
            "learning_rate": {"float": [1e-3, 0.1], "log": True},
            "weight_decay": {"float": [1e-5, 1e-1], "log": True},
            "optimizer": {"choice": ["momentum", "adam"]},
            "hidden_layers": {"choice": [[16], [32], [16, 16]]},
        },
        "training": {"epochs": 15},
        "search": {"trials": 16, "seed": number, "sampler": "random"},
        "finals": {"top": 4, "seeds": 5},
    }
    result = sweeper.run(given, workers="inline")
    ledger = open_ledger(None, Path(os.environ["SWEEPER_HOME"]))
    record = ledger.sweep(result.sweep)
    outcome, spec = read_finals(record), spec_of(record)
    assert outcome is not None
    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    params = {row.trial: ledger.trial(record.sweep, row.trial).params or {} for row in outcome.standings}
    ledger.close()
    fresh = table.iloc[TABLE_ROWS:]
    return outcome, {trial: true_loss(spec, dataset, own, fresh) for trial, own in params.items()}


def population(number: int) -> Any:
    """A table of ``TABLE_ROWS`` rows to search on, and ``FRESH_ROWS`` more to know the truth."""
    import pandas as pd
    from sklearn.datasets import make_classification, make_friedman1

    rows = TABLE_ROWS + FRESH_ROWS
    if number % 2:
        x, y = make_friedman1(rows, n_features=10, noise=1.0 + number / 10, random_state=number)
    else:
        x, y = make_classification(
            rows, 10, n_informative=6, n_classes=2 + number % 4 // 2, flip_y=0.1, class_sep=0.8, random_state=number
        )
        y = np.array([f"c{label}" for label in y])
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]).assign(y=y)


def true_loss(spec: Any, dataset: Dataset, params: Mapping[str, Any], fresh: Any) -> float:
    """The mean loss on the fresh rows over seeds that the finals did not have."""
    import torch

    from sweeper.models import build_mlp, train_cohort
    from sweeper.models.metrics import make_scorers

    config, train = spec.trial_config(params), spec.train_config(dataset.task, params)
    seeds = [50_000 + i for i in range(TRUE_SEEDS)]
    histories = train_cohort([config] * TRUE_SEEDS, train, dataset.tensors(), seeds)
    x = torch.tensor(dataset.recipe.transform(fresh.drop(columns="y")))
    if dataset.class_labels is None:
        y = torch.tensor(((fresh["y"].to_numpy() - dataset.target_mean) / dataset.target_std).astype(np.float32))
    else:
        index = {str(label): i for i, label in enumerate(dataset.class_labels)}
        y = torch.tensor([index[str(label)] for label in fresh["y"]])
    scorer, losses = make_scorers(["loss"], dataset.task)["loss"], []
    for history in histories:
        network = build_mlp(config, dataset.n_inputs, dataset.n_outputs, 0)
        network.load_state_dict(history.state_dict)
        with torch.no_grad():
            losses.append(float(scorer(network(x)[None], y, None)[0]))
    return float(np.mean(losses))


def tables(data: Mapping[str, Any]) -> list[Table]:
    """By rows, by seeds and by metric, and the trained networks."""
    columns = (
        "finals",
        "winner's 95% interval holds",
        "a false 'different'",
        "false sole winner",
        "probability above 95%",
        "differences found",
    )
    found = []
    for name, title in (("rows", "By test rows"), ("seeds", "By seeds"), ("metric", "By metric")):
        rows = []
        for value in dict.fromkeys(cell[name] for cell in data["simulated"]):
            for tie in (True, False):
                total = Counts()
                for cell in data["simulated"]:
                    if cell[name] == value and cell["tie"] is tie:
                        total += Counts(**{key: cell[key] for key in vars(total)})
                kind = "all equally good" if tie else "one is better"
                rows.append((f"{value:,}, {kind}" if name != "metric" else f"{value}, {kind}", *_cells(total)))
        note = "Simulated finals of 3 to 5 finalists on 2 to 10 seeds. A false 'different' is counted once per finals."
        found.append(Table(f"{title}", (name, *columns), tuple(rows), note))
    real = data["tables"]
    share = f"{real['covered']} of {real['finals']}"
    cells = (share, f"{real['false_families']} of {real['finals']}", f"{real['told_apart']} of {real['apart']}")
    cells = (*cells, f"{real['sole']}, {real['false_sole']} of them false", f"{real['width']:.0%} of the loss")
    head = ("networks trained on", "winner's 95% interval holds", "sweeps with a false 'different'")
    head = (*head, "true 'different'", "sole winners", "mean width of the interval")
    title = f"{real['finals']} tables of {TABLE_ROWS} rows, truth from {FRESH_ROWS:,} fresh rows and fresh seeds"
    found.append(Table(title, head, (("classes and numbers", *cells),)))
    return found


def _cells(total: Counts) -> tuple[str, ...]:
    def share(count: int, of: int) -> str:
        return f"{100 * count / of:.1f}%" if of else "-"

    return (
        f"{total.finals:,}",
        share(total.covered, total.finals),
        share(total.false_families, total.finals),
        share(total.false_sole, total.finals),
        share(total.certain, total.finals),
        share(total.told_apart, total.apart),
    )
