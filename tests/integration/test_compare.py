"""`sweeper compare` on real sweeps: winners trained on common fresh seeds, judged on the test rows that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sweeper
from sweeper.cli.compare import compare
from sweeper.errors import SpecError, SweepNotFound

SPEC: dict[str, Any] = {
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"float": [1e-3, 1e-1], "log": True}, "hidden_layers": {"value": [8]}},
    "training": {"epochs": 4},
    "search": {"trials": 3, "sampler": "random"},
}


@pytest.fixture(scope="module", autouse=True)
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, sweeper.Result]]:
    """Three sweeps: a with finals, b with another space, c with other test rows."""
    other: dict[str, Any] = {"space": {**SPEC["space"], "hidden_layers": {"value": [4]}}}
    sweeps = {"a": {"finals": {"top": 2, "seeds": 3}}, "b": other, "c": {"split": {"seed": 1}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(tmp_path_factory.mktemp("compare")))
        for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS", "SWEEPER_SERVER"):
            patch.delenv(name, raising=False)
        yield {name: sweeper.run({**SPEC, **more, "name": name}, workers="inline") for name, more in sweeps.items()}


def answer(capsys: pytest.CaptureFixture[str], *refs: str, out: Path | None = None) -> dict[str, Any]:
    capsys.readouterr()
    compare(refs, 3, None if out is None else str(out), True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_winners_are_judged_on_the_rows_and_seeds_of_the_finals(
    results: dict[str, sweeper.Result], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = answer(capsys, "a", "b", out=tmp_path / "c.html")
    contest = found["contest"]
    assert (contest["paired"], contest["rows"], contest["seeds"]) == (True, 30, [1000, 1001, 1002])
    finals = results["a"].summary["finals"]
    scores = {score["letter"]: score["mean"] for score in contest["scores"]}
    assert contest["metric"] == finals["metric"]
    assert scores["A"] == pytest.approx(finals["standings"][0]["mean"], rel=1e-6)  # its networks are the finals'
    [duel] = contest["duels"]
    assert duel["difference"] == pytest.approx(scores[duel["first"]] - scores[duel["second"]])
    assert {c["key"]: c["values"] for c in found["changes"]}["space.hidden_layers"] == ["[8]", "[4]"]
    assert found["same_data"]
    assert found["sentence"] in (tmp_path / "c.html").read_text(encoding="utf-8")
    assert answer(capsys, "a", "b")["contest"] == contest
    compare(["b", "a"], 3, None, False)
    assert "space.hidden_layers" in capsys.readouterr().out


def test_sweeps_on_other_rows_are_told_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "b", "c")
    assert not found["same_data"]
    assert not found["contest"]["paired"]
    assert found["problem"] == "A and B have different test rows"
    assert "each on its own test rows" in found["sentence"]


def test_what_cannot_be_compared_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="1 sweeps were named"):
        compare(["a"], 3, None, True)
    with pytest.raises(SpecError, match="named twice"):
        compare(["a", "a"], 3, None, True)
    with pytest.raises(SweepNotFound):
        compare(["a", "nope"], 3, None, True)


def test_more_training_rows_with_the_same_test_file_are_judged_on_common_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = [f"{x / 10},{x % 7},{'yes' if x % 7 > 3 else 'no'}" for x in range(140)]
    (tmp_path / "few.csv").write_text("\n".join(["a,b,label", *lines[:60]]))
    (tmp_path / "many.csv").write_text("\n".join(["a,b,label", *lines[:100]]))
    (tmp_path / "test.csv").write_text("\n".join(["a,b,label", *lines[100:]]))
    for name in ("few", "many"):
        data = {"path": str(tmp_path / f"{name}.csv"), "target": "label", "test": str(tmp_path / "test.csv")}
        sweeper.run({**SPEC, "dataset": data, "name": name, "search": {"trials": 1}}, workers="inline")
    found = answer(capsys, "few", "many")
    assert not found["same_data"]
    assert (found["contest"]["paired"], found["contest"]["rows"]) == (True, 40)


def test_objectives_of_ones_own_are_set_side_by_side_by_their_best_values(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "f.py").write_text("def f(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    for seed in (0, 1):
        spec = {"name": f"own{seed}", "objective": {"function": f"{tmp_path}/f.py:f"}}
        sweeper.run({**spec, "search": {"trials": 2, "seed": seed}}, workers="inline")
    found = answer(capsys, "own0", "own1")
    assert found["contest"] is None
    best = {c["letter"]: c["value"] for c in found["contenders"]}
    assert f"are A {best['A']:.6g} and B {best['B']:.6g}" in found["sentence"]
