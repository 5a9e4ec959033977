"""The benchmark of the search: regret, who is compared with whom, and what is not run twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import search_pruning
from benchmarks.problems import Problem, Scale, conditional, scale
from benchmarks.regret import Results, paired, regrets
from benchmarks.search import best_so_far, regret_table, run
from benchmarks.surrogate import VARIABLE, Missing, Surrogate, folder


def test_regret_is_none_at_the_best_value_and_one_at_a_random_one() -> None:
    between = Scale(best=1.0, typical=3.0)
    assert [between.regret(value) for value in (1.0, 2.0, 3.0)] == [0.0, 0.5, 1.0]
    assert between.improved(0.0).regret(1.0) == pytest.approx(1 / 3)


def test_a_search_sees_results_with_the_delay_of_its_workers_and_keeps_its_best_value() -> None:
    told: list[tuple[int, int]] = []

    class Watched:
        batch = 2

        def ask(self, numbers: range) -> list[dict[str, float | str]]:
            told.append((numbers.start, len(seen)))
            return [{"optimizer": "sgd", "dropout": 0.2, "label_smoothing": 0.05 * n} for n in numbers]

        def tell(self, number: int, value: float) -> None:
            seen.append(number)

    seen: list[int] = []
    curve = best_so_far(conditional()[0], Watched(), trials=8, workers=4)
    assert told == [(0, 0), (2, 0), (4, 2), (6, 4)]
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] == pytest.approx(0.3 + 0.25**2)


def test_sweeps_of_the_file_are_not_run_again_and_the_table_compares_pairs(tmp_path: Path) -> None:
    path, problems = tmp_path / "search.jsonl", conditional()[:2]
    run(Results(path), problems, ["random"], range(1), [1], 20)
    first = path.read_text(encoding="utf-8")
    results = Results(path)
    run(results, problems, ["random", "optuna"], range(1), [1], 20)
    assert path.read_text(encoding="utf-8").startswith(first)
    assert len(results.rows) == 4
    for problem in problems:
        results.add({"kind": "scale", "problem": problem.name, "family": "conditional", "best": 0.0, "typical": 1.0})
    table = regret_table(results.rows, "conditional", peer="random")
    assert table is not None
    assert [row[0] for row in table.rows] == ["optuna", "random"]


def test_only_seeds_that_every_method_had_on_every_problem_are_compared() -> None:
    results = Results(None)
    for problem in ("a", "b"):
        results.add({"kind": "scale", "problem": problem, "family": "lcbench", "best": 0.0, "typical": 1.0})
    values = {"a": (0.25, 0.5), "b": (0.75, 0.25)}
    for seed in range(3):
        for problem in ("a", "b"):
            for method, value in zip(("ours", "optuna"), values[problem], strict=True):
                if (seed, problem, method) != (2, "b", "optuna"):  # cut off there
                    found = [value + 0.5 * seed * (method == "ours")]
                    known = {"problem": problem, "method": method, "workers": 1, "seed": seed}
                    results.add({"kind": "sweep", **known, "found": found})
    found = regrets(results.rows, "lcbench")
    assert found["ours", 1].shape == (2, 2, 1)
    assert paired(found["ours", 1], found["optuna", 1], 0) == "+37.50 +- 37.50 (0 of 2), seeds +- 25.00"
    assert paired(found["ours", 1][:, :1], found["optuna", 1][:, :1], 0) == "+12.50 +- 37.50 (1 of 2)"
    assert regrets(results.rows[:3], "lcbench")["ours", 1].shape == (1, 1, 1)
    assert not regrets(results.rows, "conditional")


def test_the_best_known_value_is_near_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.problems.RANDOM", 400)
    monkeypatch.setattr("benchmarks.problems.ROUNDS", 8)
    found = scale(conditional()[0])
    assert 0.0 <= found.best < 1e-3 < 0.3 < found.typical


def test_missing_files_of_the_surrogate_are_named_with_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(Missing, match=f"{tmp_path} has no model.onnx: set {VARIABLE}"):
        folder()


def test_the_surrogate_feeds_epochs_and_points_in_the_models_order(tmp_path: Path) -> None:
    """A model that adds up its inputs, each by a factor that tells it apart, stands for the real one."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    (tmp_path / "config_space.json").write_text('{"hyperparameters": [{"choices": ["20", "3"]}]}')
    (tmp_path / "encoding.json").write_text('{"OpenML_task_id": {"#na#": 0, "20": 1, "3": 2}}')
    weights = np.zeros((8, 6), np.float32)
    weights[:, 1] = [1.0, 1e-2, 0.0, 10.0, 0.0, 2.0, 1e-3, 0.0]
    tasks = np.zeros((1, 6), np.float32)
    tasks[0, 1] = 4.0
    nodes = [
        helper.make_node("MatMul", ["x_cont", "weights"], ["numbers"]),
        helper.make_node("Cast", ["x_cat"], ["code"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["code", "tasks"], ["task"]),
        helper.make_node("Add", ["numbers", "task"], ["output"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x_cat", TensorProto.INT32, [None, 1]),
        helper.make_tensor_value_info("x_cont", TensorProto.FLOAT, [None, 8]),
    ]
    output = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, 6])]
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(tasks, "tasks")]
    model = helper.make_model(
        helper.make_graph(nodes, "sum", inputs, output, constants), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    save_model(model, tmp_path / "model.onnx")
    point = {"batch_size": 100, "learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.01, "depth": 3, "width": 1000}
    made = Surrogate(tmp_path)
    assert made.tasks == ["3", "20"]
    curve = made.curves("3", [point | {"dropout": 0.5}])[0]
    # accuracy: epoch + 0.01 batch_size + 10 momentum + 2 depth + 0.001 width + 4 code
    assert curve == pytest.approx([100 - (epoch + 1 + 5 + 6 + 1 + 8) for epoch in range(1, 53)])
    assert made.errors("20", [point | {"dropout": 0.0}]) == pytest.approx([100 - (52 + 1 + 5 + 6 + 1 + 4)])


def test_searches_of_several_problems_begin_at_different_points() -> None:
    starts = [
        search_pruning.METHODS["random"](p, p.seed(0), 1, 4).start() for p in (LEARNING, replace(LEARNING, name="b"))
    ]
    assert starts[0] != starts[1]


LEARNING = Problem(
    "learning",
    "lcbench",
    {"dropout": {"float": [0.0, 0.99]}},
    lambda points: np.array([p["dropout"] for p in points]),
    lambda points: np.array([p["dropout"] for p in points])[:, None] + np.array([3.0, 2.0, 1.0, 0.0]),
)


def test_epochs_that_a_pruner_saves_are_spent_on_other_trials() -> None:
    ended: list[tuple[int, list[float], bool]] = []

    class Halves:
        """Trial n ends at 1 - n / 10; odd ones stop after an epoch, and trial 3 waits for the end of trial 2."""

        begun = 0

        def start(self) -> tuple[int, dict[str, float]] | None:
            if self.begun == 3 and 2 not in [number for number, _, _ in ended]:
                return None
            self.begun += 1
            return self.begun - 1, {"dropout": 1 - (self.begun - 1) / 10}

        def stops(self, number: int, curve: list[float]) -> bool:
            return number % 2 == 1

        def end(self, number: int, curve: list[float], complete: bool) -> None:
            ended.append((number, curve, complete))

    spent = search_pruning.spend(LEARNING, Halves(), workers=2, epochs=4, budget=12)
    assert [(number, len(curve), complete) for number, curve, complete in ended] == [
        (1, 1, False),
        (0, 4, True),
        (2, 4, True),
        (3, 1, False),
    ]
    # the best epoch of any trial, from the end of trial 0 on the best end
    assert spent.found == pytest.approx([4, 3.9, 3, 3, 2, 2, 1, 1, 0.8, 0.8, 0.8, 0.8])
    assert (spent.trials, spent.ticks) == (6, 7)


@pytest.mark.parametrize("method", ["ours, asha", "ours, hyperband", "ours, asha, narrow", "Optuna, asha"])
def test_pruning_gets_further_in_as_many_epochs(method: str, tmp_path: Path) -> None:
    results = Results(tmp_path / "pruned.jsonl")
    search_pruning.run(results, [LEARNING], [method, "random"], range(1), [2], budget=20, epochs=4)
    pruned, whole = results.rows
    assert pruned["trials"] > whole["trials"]
    assert pruned["found"][-1] < 0.2
    search_pruning.run(results, [LEARNING], [method], range(1), [2], budget=20, epochs=4)
    assert len(results.rows) == 2
