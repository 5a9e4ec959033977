"""Finals of real sweeps: fresh seeds, the untouched test split, resumed after interruption, shown where they belong."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn import metrics

import sweeper
from sweeper.data.loading import load, load_final_folds
from sweeper.ledger.opening import open_ledger
from sweeper.running.finals import FRESH
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import spec_of
from tests.faults import CLEARED, INLINE, Site, outcomes, wait_until

SPEC: dict[str, Any] = {
    "name": "final",
    "dataset": {"name": "iris"},
    "space": {
        "learning_rate": {"float": [1e-3, 1.0], "log": True},
        "activation": {"choice": ["relu", "tanh"]},
        "hidden_layers": {"choice": [[8], [16]]},
    },
    "training": {"epochs": 8},
    "search": {"trials": 12, "seed": 3},
    "finals": {"top": 3, "seeds": 4},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finals")


@pytest.fixture(scope="module")
def result(home: Path) -> sweeper.Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(home))
        for name in CLEARED[1:]:
            patch.delenv(name, raising=False)
        return sweeper.run(SPEC, workers="inline")


def finals_of(home: Path, sweep: str) -> dict[str, Any]:
    ledger = open_ledger(None, home)
    found = dict(ledger.sweep(sweep).summary["finals"])
    ledger.close()
    return found


def test_finalists_are_the_best_of_the_search_on_seeds_it_has_not_seen(home: Path, result: sweeper.Result) -> None:
    finals = finals_of(home, result.sweep)
    best = result.trials.sort_values("value")["number"].head(3)
    assert {standing["trial"] for standing in finals["standings"]} == set(best)
    assert finals["seeds"] == [3 + FRESH + i for i in range(4)]
    assert len(finals["comparisons"]) == 3
    assert sum(standing["probability_best"] for standing in finals["standings"]) == pytest.approx(1.0)
    means = [standing["mean"] for standing in finals["standings"]]
    assert means == sorted(means)


def test_each_value_is_the_plain_run_of_that_seed_on_the_test_split(home: Path, result: sweeper.Result) -> None:
    from sweeper.data.dataset import load_dataset
    from sweeper.models import Data, train_solo
    from sweeper.models.mlp import build_mlp
    from sweeper.models.solo import evaluate

    spec = SweepSpec.from_json(json.loads(json.dumps(result_spec(home, result))))
    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    data = dataset.tensors()
    finals = finals_of(home, result.sweep)
    for standing in finals["standings"][:2]:
        params = result.trials.set_index("number").loc[standing["trial"]]
        own = {k.removeprefix("params_"): v for k, v in params.items() if k.startswith("params_")}
        config = spec.trial_config(own)
        for seed, value in zip(finals["seeds"], standing["values"], strict=True):
            history = train_solo(config, spec.train_config("classification"), data, seed)
            network = build_mlp(config, 4, 3, 0)
            network.load_state_dict(history.state_dict)
            test = Data(data.x_train, data.y_train, *dataset.test_tensors())
            assert evaluate(network, test, "classification")[0] == pytest.approx(value, rel=1e-4)


def result_spec(home: Path, result: sweeper.Result) -> dict[str, Any]:
    ledger = open_ledger(None, home)
    stored = {k: v for k, v in ledger.sweep(result.sweep).spec.items() if k != "fingerprint"}
    ledger.close()
    return stored


def test_the_finals_are_no_sweep_of_their_own_for_the_user(home: Path, result: sweeper.Result) -> None:
    site = Site(home)
    assert [row["sweep"] for row in site.answer("list")["sweeps"]] == [result.sweep]
    summary = result.summary
    assert (summary["requested"], summary["complete"] + summary["failed"]) == (12, 12)
    assert summary["finals"]["sentence"]
    page = (home / "sweeps" / result.sweep / "report.html").read_text()
    assert "fresh seeds" in page


def test_the_logged_model_is_the_one_that_leads_the_finals(home: Path, result: sweeper.Result) -> None:
    from mlflow import MlflowClient

    leader = finals_of(home, result.sweep)["standings"][0]["trial"]
    client = MlflowClient(result.summary["mlflow"]["tracking_uri"])
    assert client.get_run(result.summary["mlflow"]["run_id"]).data.tags["winner.trial"] == str(leader)


def test_a_resume_of_a_sweep_with_its_finals_changes_nothing(home: Path, result: sweeper.Result) -> None:
    before = finals_of(home, result.sweep)
    assert Site(home).answer("resume", result.sweep, *INLINE)["finals"] == json.loads(json.dumps(before))


def test_selection_bias_can_be_read_from_what_is_kept(home: Path, result: sweeper.Result) -> None:
    for standing in finals_of(home, result.sweep)["standings"]:
        row = result.trials.set_index("number").loc[standing["trial"]]
        assert standing["search_value"] == row["value"]
        assert math.isfinite(standing["validation_mean"])
        assert standing["low"] <= standing["mean"] <= standing["high"]
        assert np.mean(standing["values"]) == pytest.approx(standing["mean"])


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGINT])
def test_finals_that_were_interrupted_go_on_with_a_resume(tmp_path: Path, fault: signal.Signals) -> None:
    spec = SPEC | {"training": {"epochs": 400}, "search": {"trials": 4, "seed": 3}, "finals": {"top": 2, "seeds": 8}}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    calm = Site(tmp_path / "calm")
    wanted = calm.answer("run", str(file), *INLINE)["finals"]
    patches = ("sweeper.running.run.LEG_SECONDS = 0.05", "sweeper.running.fitting.MAX_ROWS_CPU = 2")
    site = Site(tmp_path / "home", patches=patches)
    process = site.start("run", str(file), *INLINE)
    wait_until(lambda: finals_begun(site.home) >= 3, 120)
    site.kill(process, fault)
    process.communicate(timeout=120)
    assert process.returncode == (130 if fault is signal.SIGINT else -signal.SIGKILL)
    done = site.answer("resume", "final", *INLINE)
    assert {k: v for k, v in done["finals"].items() if k != "sweep"} == {
        k: v for k, v in wanted.items() if k != "sweep"
    }
    assert outcomes(site.trials("final")) == outcomes(calm.trials("final"))
    for each in (site, calm):
        each.close()


def finals_begun(home: Path) -> int:
    """How many of the finals' trials have begun."""
    return sum(
        '"finals.trial.started"' in line
        for log in (home / "sweeps").glob("*/events.jsonl")
        for line in log.read_text().splitlines()
    )


def test_finals_are_stopped_through_their_sweep_and_go_on_with_its_resume(tmp_path: Path) -> None:
    site, seeds = Site(tmp_path / "home"), 24
    file = tmp_path / "sweep.json"
    long = {"training": {"epochs": 3000}, "search": {"trials": 2}, "finals": {"top": 2, "seeds": seeds}}
    file.write_text(json.dumps(SPEC | long))
    site.home.mkdir()
    process = site.start("run", str(file), *INLINE)
    ledger = open_ledger(None, site.home)
    try:
        wait_until(
            lambda: any(f.counts["running"] for s in ledger.sweeps() for f in ledger.finals(parent=s.sweep)), 120
        )
        [sweep] = [record.sweep for record in ledger.sweeps()]
        stopped = site.run("stop", sweep)
        assert stopped.returncode == 0, stopped.stderr
        assert process.wait(timeout=120) == 0, process.communicate()[1][-3000:]
        [finals] = ledger.finals(parent=sweep)
        assert finals.state == "stopped"
        assert finals.counts["complete"] + finals.counts["stopped"] == 2 * seeds
        assert finals.counts["stopped"] > 0
        record = ledger.sweep(sweep)
        assert (str(record.state), record.reason) == ("complete", "every trial has ended; finals stopped by the user")
        assert site.answer("resume", sweep, *INLINE)["state"] == "complete"
        [finals] = ledger.finals(parent=sweep)
        assert (finals.state, finals.counts["complete"]) == ("complete", 2 * seeds)
        record = ledger.sweep(sweep)
        assert (bool(record.summary["finals"]), record.reason) == (True, "every trial has ended")
    finally:
        ledger.close()
        site.close()


def test_the_winners_scores_on_the_test_rows_are_in_the_answer(home: Path, result: sweeper.Result) -> None:
    found = result.summary
    assert {"loss", "accuracy", "roc_auc"} <= set(found["test"])
    low, high = found["test_intervals"]["accuracy"]
    assert low <= found["test"]["accuracy"] <= high
    assert high - low > 0.05  # 30 rows
    finals = finals_of(home, result.sweep)
    assert finals["rows"] == 30
    assert all(standing["high"] > standing["low"] for standing in finals["standings"])


def test_what_a_finalists_network_says_of_the_test_rows_is_kept_and_made_again_where_it_is_lost(
    home: Path, result: sweeper.Result
) -> None:
    from sweeper.data.dataset import load_dataset
    from sweeper.running.outputs import OutputsOnTest

    spec = SweepSpec.from_json(json.loads(json.dumps(result_spec(home, result))))
    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    folder = home / "sweeps" / result.sweep / "test-outputs"
    kept = {path.name: np.load(path) for path in folder.iterdir()}
    assert len(kept) == 3 * 4
    (folder / "trial-000000.npy").unlink()
    (folder / "trial-000001.npy").write_bytes(b"damaged")
    ledger = open_ledger(None, home)
    [finals] = ledger.finals(parent=result.sweep)
    outputs = OutputsOnTest(folder, spec, dataset, "loss")
    for trial in ledger.trials(finals.sweep)[:3]:
        name = f"trial-{trial.number:06d}.npy"
        np.testing.assert_allclose(outputs.of(trial), kept[name], rtol=1e-3, atol=1e-3)
        assert np.load(folder / name).shape == (30, 3)
    ledger.close()


def test_finals_in_folds_judge_every_row_and_go_on_from_what_is_kept(tmp_path: Path) -> None:
    finals_spec = {"top": 2, "folds": 3, "repeats": 2}
    search = {"trials": 4, "sampler": "random", "seed": 3}
    spec = SPEC | {"training": {"epochs": 3}, "search": search, "finals": finals_spec, "winner": "ensemble"}
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(spec))
    site = Site(tmp_path / "home")
    answer = site.answer("run", str(file), *INLINE)
    found = answer["finals"]
    assert (found["folds"], found["repeats"], found["rows"]) == (3, 2, 150)
    assert [len(standing["values"]) for standing in found["standings"]] == [6, 6]
    first, second = (np.array(standing["values"]) for standing in found["standings"])
    [pair] = found["comparisons"]
    assert pair["difference"] == pytest.approx((first - second).mean())
    assert pair["high"] - pair["difference"] == pytest.approx(half_of_folds(first - second), rel=1e-3)
    ledger = open_ledger(None, site.home)
    [finals] = ledger.finals()
    trained = ledger.trials(finals.sweep)  # so they are resumed as all trials are
    shares = {member["trial"]: member["share"] for member in answer["ensemble"]["members"]}
    entrants = [row["trial"] for row in sorted(found["standings"], key=lambda row: row["search_value"])]
    entrants += [number for number in shares if number not in entrants]
    assert [trial.state for trial in trained] == ["complete"] * len(entrants) * 6
    assert [t.seed - trained[0].seed for t in trained] == [i for i in range(6) for _ in entrants]
    assert {json.dumps(dict(t.params or {})) for t in trained} == {
        json.dumps(dict(ledger.trial(answer["sweep"], number).params or {})) for number in entrants
    }
    losses = np.reshape([t.metrics["test_loss"] for t in trained], (6, -1))
    assert sorted(losses[:, :2].flat) == pytest.approx(sorted([*first, *second]))

    # the ensemble: the weighted logits of its members in each fold, by scikit-learn
    plain = spec_of(ledger.sweep(answer["sweep"]))
    data = load_final_folds(plain, load(plain))
    made = [np.load(path) for path in sorted(site.home.glob("sweeps/*/fold-outputs/*.npy"))]
    values = np.array(found["ensemble"])
    for i, fold in enumerate(data.folds):
        mixed = sum(share * made[i * len(entrants) + entrants.index(number)] for number, share in shares.items())
        assert values[i] == pytest.approx(metrics.log_loss(fold.y_test, softmax(mixed, axis=1)), rel=1e-4)
    assert answer["ensemble"]["folds"] == 3
    beside = {one["trial"]: one for one in answer["ensemble"]["finalists"]}
    for standing in found["standings"]:
        one, gaps = beside[standing["trial"]], values - np.array(standing["values"])
        assert [one["mean"], one["difference"]] == pytest.approx([standing["mean"], gaps.mean()])
        if np.ptp(gaps):  # an ensemble of one trial is that trial
            assert one["high"] - one["difference"] == pytest.approx(half_of_folds(gaps), rel=1e-3)
    assert "In the finals' folds its trials" in answer["ensemble"]["sentence"] or len(shares) == 1
    assert "the members were trained anew" in next(site.home.glob("sweeps/*/report.html")).read_text()
    ledger.close()
    site.close()


def half_of_folds(gaps: np.ndarray) -> float:
    """Nadeau and Bengio (2003): variance of the mean = (1/J + n_test/n_train) * s^2, with J - 1 degrees of freedom."""
    return float(stats.t.isf(0.025, 5) * np.sqrt((1 / 6 + 50 / 100) * np.var(gaps, ddof=1)))


def test_more_final_folds_than_rows_of_a_class_are_refused_before_anything_starts(tmp_path: Path) -> None:
    site = Site(tmp_path / "home")
    for finals, said in (
        (
            {"folds": 51},
            "finals.folds: there are 51 folds, and the class 'setosa' has 50 rows for them. Use 50 folds or fewer",
        ),
        ({"repeats": 3}, "finals.repeats"),
    ):
        file = tmp_path / "sweep.json"
        file.write_text(json.dumps(SPEC | {"finals": finals}))
        answer = site.run("run", str(file), *INLINE)
        assert answer.returncode == 2
        assert said in answer.stderr
    assert not list(site.home.glob("sweeps/*"))
    site.close()
