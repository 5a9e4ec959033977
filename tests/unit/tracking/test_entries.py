"""What a sweep looks like in MLflow, before anything is written."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sweeper.ledger.memory import MemoryLedger
from sweeper.records import EpochReport, FlowReport, SweepRecord, TrialRecord
from sweeper.search_spaces import ready_made
from sweeper.spec.phases import Phase, attributes_of
from sweeper.states import TrialState
from sweeper.tracking.entries import (
    FLOW_METRICS,
    MAX_KEY,
    MAX_PARAM,
    RunCurves,
    clean_key,
    spec_params,
    text,
    trial_entry,
)
from sweeper.tracking.summary import description, final_points, finalists, sweep_points
from sweeper.tracking.sweep import sweep_view
from sweeper.tracking.view import MAX_TAG_LENGTH, view_tag, view_url
from tests.ended_sweeps import BEGAN, end_trials, new_sweep, spec_of
from tests.finals_outcome import outcome


def ended(**sections: Any) -> tuple[SweepRecord, TrialRecord, list[EpochReport]]:
    ledger = MemoryLedger()
    sweep = new_sweep(ledger, spec_of(trials=2, **sections))
    end_trials(ledger, sweep.sweep, [1])
    return sweep, ledger.trial(sweep.sweep, 1), ledger.reports(sweep.sweep, 1)[1]


def state_of(tag: str) -> dict[str, Any]:
    packed = json.loads(tag)["state"]
    assert packed.startswith("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;")))))


def test_a_trial_becomes_a_run_with_sortable_name_tags_parameters_and_every_epoch() -> None:
    sweep, trial, reports = ended()
    entry = trial_entry(sweep, trial, reports)
    assert entry.name == "trial-0001"
    assert entry.status == "FINISHED"
    assert entry.tags["sweep.id"] == sweep.sweep
    assert (entry.tags["trial.number"], entry.tags["trial.state"], entry.tags["trial.attempts"]) == (
        "1",
        "complete",
        "1",
    )
    assert entry.tags["trial.reason"] == "finished"
    assert entry.params["hidden_layers"] == "[128,128]"
    assert float(entry.params["learning_rate"]) == trial.params["learning_rate"]
    assert entry.params["seed"] == "0"
    losses = [point for point in entry.points if point.key == "val_loss"]
    assert [point.step for point in losses] == list(range(20))
    assert [point.value for point in losses] == [report.metrics["val_loss"] for report in reports]
    last = {point.key: point.value for point in entry.points}
    assert last["objective"] == last["val_loss"] == trial.value
    assert last["best_val_loss"] == min(point.value for point in losses)
    assert last["best_val_accuracy"] == max(report.metrics["val_accuracy"] for report in reports)
    assert (last["epochs"], last["seconds"]) == (20, 1.5)


def test_a_member_of_a_population_shows_the_hyperparameters_that_changed_and_whom_it_copied() -> None:
    sweep, trial, reports = ended()
    first = {"learning_rate": 0.1, "weight_decay": 0.0, "optimizer": "momentum", "momentum": 0.9, "hidden_layers": [4]}
    second = {**first, "learning_rate": 0.08, "hidden_layers": [3]}
    third = {"learning_rate": 0.1, "weight_decay": 0.0, "optimizer": "adam", "hidden_layers": [3]}
    history = (Phase(0, first), Phase(4, second, 0), Phase(8, third, 7))
    entry = trial_entry(sweep, replace(trial, params=third, attributes=attributes_of(history, history[-1:])), reports)
    points = {(p.key, p.step): p.value for p in entry.points if p.key.startswith("hp/")}
    assert points == {
        ("hp/learning_rate", 0): 0.1,
        ("hp/learning_rate", 4): 0.08,
        ("hp/learning_rate", 8): 0.1,
        ("hp/momentum", 0): 0.9,
        ("hp/momentum", 4): 0.9,
    }
    begun = [p.timestamp for p in entry.points if p.key == "hp/learning_rate"]
    assert begun[0] == entry.started
    assert begun == sorted(begun)
    assert "from epoch 5: a copy of trial 0, learning_rate=0.08" in entry.tags["trial.phases"]
    assert "trial.phases" not in trial_entry(sweep, trial, reports).tags


def test_times_are_those_of_the_trial_and_do_not_change_from_one_writing_to_the_next() -> None:
    sweep, trial, reports = ended()
    entry = trial_entry(sweep, trial, reports)
    assert (entry.started, entry.ended) == (round((BEGAN + 2) * 1000), round((BEGAN + 3.5) * 1000))
    times = [point.timestamp for point in entry.points]
    assert times == sorted(times)
    assert entry.started < times[0] <= times[-1] == entry.ended
    assert trial_entry(sweep, trial, reports) == entry


@pytest.mark.parametrize(
    ("state", "status"), [("complete", "FINISHED"), ("pruned", "KILLED"), ("failed", "FAILED"), ("stopped", "KILLED")]
)
def test_every_state_has_its_status_and_only_complete_trials_are_ranked(state: str, status: str) -> None:
    sweep, trial, reports = ended()
    entry = trial_entry(sweep, replace(trial, state=TrialState(state)), reports)
    assert entry.status == status
    assert ("objective" in {point.key for point in entry.points}) == (state == "complete")


def test_values_that_are_no_numbers_are_left_out_of_the_curves() -> None:
    sweep, trial, _ = ended()
    reports = [EpochReport(0, {"val_loss": 1.0}), EpochReport(1, {"val_loss": float("nan")})]
    entry = trial_entry(sweep, replace(trial, state=TrialState.FAILED, value=float("inf")), reports)
    assert [point.value for point in entry.points if point.key == "val_loss"] == [1.0]


def test_a_trial_that_never_started_is_shown_without_parameters() -> None:
    ledger = MemoryLedger()
    sweep = new_sweep(ledger, spec_of())
    entry = trial_entry(sweep, replace(ledger.trial(sweep.sweep, 0), state=TrialState.STOPPED, ended_at=BEGAN), [])
    assert (entry.started, entry.ended, entry.status) == (BEGAN * 1000, BEGAN * 1000, "KILLED")
    assert set(entry.params) == {"seed"}


@pytest.mark.parametrize(
    "key", ["learning_rate", "a b", "per layer/0.weight", "größe", "x" * 400, "a?b=c", "../up", "", "/"]
)
def test_any_name_becomes_one_that_mlflow_takes(key: str) -> None:
    cleaned = clean_key(key)
    assert 0 < len(cleaned) <= MAX_KEY
    assert cleaned.isascii()
    assert ".." not in cleaned
    assert not cleaned.startswith("/")
    if key.replace("_", "").isalnum() and key.isascii() and len(key) <= MAX_KEY:
        assert cleaned == key


def test_two_long_names_stay_two_names() -> None:
    assert clean_key("x" * 400 + "a") != clean_key("x" * 400 + "b")


def test_a_long_value_is_cut_with_a_mark() -> None:
    cut = text(list(range(5000)))
    assert len(cut) == MAX_PARAM
    assert cut.endswith("characters)")


def test_the_parent_run_has_the_specs_settings_but_none_that_may_change() -> None:
    sweep, _, _ = ended()
    params = spec_params(sweep.spec)
    assert params["dataset.name"] == "iris"
    assert params["training.epochs"] == "20"
    assert params["objective.metric"] == "val_loss"
    assert params["space"] == "mlp"
    assert "search.trials" not in params


def test_progress_counts_trials_and_keeps_the_best_value() -> None:
    progress = RunCurves(maximize=False)
    trial = TrialRecord(0, TrialState.COMPLETE, value=2.0, ended_at=1.0)
    worse = replace(trial, number=1, value=3.0)
    failed = replace(trial, number=2, state=TrialState.FAILED, value=None)
    points = [point for one in (trial, worse, failed) for point in progress.add(one)]
    assert [(p.step, p.value) for p in points if p.key == "best_value"] == [(1, 2.0), (2, 2.0)]
    assert [(p.step, p.value) for p in points if p.key == "trials_complete"] == [(1, 1.0), (2, 2.0)]
    assert progress.add(worse) == []
    retried = progress.add(replace(failed, state=TrialState.COMPLETE, value=1.0))
    assert [(p.step, p.key, p.value) for p in retried] == [(3, "trials_complete", 3.0), (3, "best_value", 1.0)]


def test_the_view_lists_the_best_trials_first_with_their_parameters_and_results() -> None:
    sweep, _, _ = ended()
    view = sweep_view(sweep, spec_of(), "classification", "parent-run", ())
    tag = view_tag(view, created_at=BEGAN)
    state = state_of(tag)
    assert json.loads(tag)["name"] == f"demo ({sweep.sweep})"
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = 'parent-run'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`objective`", True)
    assert "params.`momentum`" in state["selectedColumns"]
    assert "params.`hidden_layers`" not in state["selectedColumns"]  # it is the same in all trials
    charts = [chart for chart in state["compareRunCharts"] if not chart["deleted"]]
    assert {chart["metricSectionId"] for chart in charts} == {one["uuid"] for one in state["compareRunSections"]}
    [parallel] = [chart for chart in charts if chart["type"] == "PARALLEL"]
    assert "momentum" not in parallel["selectedParams"]  # most trials have none
    assert [c["xaxis"]["key"] for c in charts if c["type"] == "SCATTER"] == [
        "learning_rate",
        "momentum",
        "weight_decay",
    ]
    lines = [chart["metricKey"] for chart in charts if chart["type"] == "LINE"]
    assert lines == ["val_loss", "train_loss", "val_accuracy", "learning_rate", "grad_norm", *FLOW_METRICS]


def test_finals_and_further_objectives_have_columns_and_charts_of_their_own() -> None:
    sweep, _, _ = ended()
    view = sweep_view(sweep, spec_of(), "classification", "parent-run", ())
    state = state_of(view_tag(replace(view, goals=("parameters",), finalists=("run-b", "run-a")), BEGAN))
    assert state["runsPinned"] == ["run-b", "run-a"]
    columns = state["selectedColumns"]
    assert {"metrics.`parameters`", "metrics.`final_mean`", "metrics.`final_low`", "tags.`trial.pareto`"} <= {*columns}
    charts = [chart for chart in state["compareRunCharts"] if not chart["deleted"]]
    assert {chart["metricSectionId"] for chart in charts} == {one["uuid"] for one in state["compareRunSections"]}
    [parallel] = [chart for chart in charts if chart["type"] == "PARALLEL"]
    assert parallel["selectedMetrics"] == ["parameters", "val_loss"]
    against = {(c["xaxis"]["key"], c["yaxis"]["key"]) for c in charts if c["type"] == "SCATTER"}
    assert {("parameters", "val_loss"), ("objective", "final_mean")} <= against
    assert [c["metricKey"] for c in charts if c["type"] == "BAR"] == ["final_mean", "final_low", "final_high"]
    uuids = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert len(uuids) == len(set(uuids))


FINALS = outcome({0: [0.4, 0.5, 0.6], 1: [0.2, 0.3, 0.4]})


def test_the_finals_give_their_trials_a_mean_and_an_interval_and_the_parent_the_leaders() -> None:
    sweep, trial, _ = ended()
    sweep = replace(sweep, summary={"finals": FINALS}, ended_at=BEGAN + 9)
    assert finalists(sweep) == [1, 0]
    points = {number: {p.key: p.value for p in points} for number, points in final_points(sweep)}
    assert points == {
        row["trial"]: {f"final_{name}": row[name] for name in ("mean", "low", "high")} for row in FINALS["standings"]
    }
    diverged = replace(sweep, summary={"finals": outcome({0: [0.5, math.nan], 1: [0.3, 0.4]})})
    assert {number: len(points) for number, points in final_points(diverged)} == {0: 0, 1: 3}
    parent = {p.key: p.value for p in sweep_points(sweep, trial)}
    assert parent["final_mean"] == pytest.approx(0.3)
    assert parent["winner_val_loss"] == trial.metrics["val_loss"]
    assert sweep_points(sweep, trial) == sweep_points(sweep, trial)  # written again, nothing is there twice
    words = description(sweep, spec_of(), replace(trial, params={"a|b": "x"}))
    assert f"{FINALS['sentence']}." in words
    assert "| a\\|b | x |" in words
    assert "Best" not in description(sweep, spec_of(), None)


def flow_report(epoch: int, activation: str = "dead") -> FlowReport:
    sizes = [{"grad_norm": 0.02 * epoch, "weight_norm": 2.0}, {"grad_norm": 1.0, "weight_norm": 1.0}]
    own = [{"update_ratio": 0.1, activation: 0.25}, {"update_ratio": 0.3, activation: 0.75}]
    layers = [{**size, **rest, "activation_mean": 0.0} for size, rest in zip(sizes, own, strict=True)]
    return FlowReport(epoch, (*layers, {"grad_norm": 4.0, "weight_norm": 1.0, "update_ratio": 0.2}), 0.125)


def test_the_gradient_flow_of_a_run_is_a_handful_of_metrics_in_the_worst_layer() -> None:
    sweep, trial, reports = ended()
    plain = trial_entry(sweep, trial, reports)
    entry = trial_entry(sweep, trial, reports, [flow_report(epoch) for epoch in range(20)])
    flow = [point for point in entry.points if point not in plain.points]
    assert {point.key: point.value for point in flow} == {  # the last epoch's, as MLflow shows them
        "flow/first_over_last_gradient": pytest.approx(0.19 / 4),
        "flow/dead_units": 0.75,
        "flow/longest_step": 0.3,
        "flow/clip_rate": 0.125,
    }
    assert sorted({point.step for point in flow}) == [0, 5, 10, 14, 19]
    tanh = trial_entry(sweep, trial, reports, [flow_report(2, "saturated")])
    assert {p.key: p.value for p in tanh.points}["flow/saturated"] == 0.75
    assert {p.key for p in entry.points + tanh.points} >= {*FLOW_METRICS}


def test_a_ratio_that_is_no_number_and_a_network_without_layers_are_left_out() -> None:
    sweep, trial, reports = ended()
    exploded = replace(
        flow_report(3), layers=tuple({**layer, "update_ratio": math.inf} for layer in flow_report(3).layers)
    )
    keys = {point.key for point in trial_entry(sweep, trial, reports, [exploded]).points}
    assert "flow/longest_step" not in keys
    assert "flow/clip_rate" in keys
    one = trial_entry(sweep, trial, reports, [FlowReport(0, (flow_report(1).layers[-1],), 0.5)])
    assert "flow/first_over_last_gradient" not in {point.key for point in one.points}


def test_a_sweep_that_measures_no_flow_has_no_columns_nor_charts_for_it() -> None:
    def shown(**training: Any) -> str:
        spec = spec_of(training=training)
        return json.dumps(state_of(view_tag(sweep_view(ended()[0], spec, "classification", "p", ()), BEGAN)))

    assert all(f"metrics.`{name}`" in shown() for name in FLOW_METRICS)
    assert "flow/" not in shown(gradient_flow=None)


def test_a_metric_of_the_whole_trial_is_shown_beside_its_curves() -> None:
    sweep, trial, reports = ended()
    entry = trial_entry(sweep, replace(trial, metrics={**trial.metrics, "size": 1234.0}), reports)
    assert [point.value for point in entry.points if point.key == "size"] == [1234.0]
    assert [point.value for point in entry.points if point.key == "parameters"] == [reports[-1].metrics["parameters"]]
    assert not {point.key for point in entry.points} & {"best_size", "best_parameters", "best_train_loss"}


def test_a_maximised_metric_and_a_regression_have_their_own_view() -> None:
    spec = spec_of(dataset={"name": "diabetes"}, objective={"metric": "val_rmse", "direction": "maximize"})
    sweep = new_sweep(MemoryLedger(), spec)
    state = state_of(view_tag(sweep_view(sweep, spec, "regression", "p", ()), BEGAN))
    assert state["orderByAsc"] is False
    assert "metrics.`val_rmse`" in state["selectedColumns"]
    assert "metrics.`val_accuracy`" not in state["selectedColumns"]


@pytest.mark.parametrize("space", [*ready_made()])
def test_every_ready_made_space_has_a_view_that_fits_into_a_tag(space: str) -> None:
    spec = spec_of(space=space)
    view = sweep_view(new_sweep(MemoryLedger(), spec), spec, "classification", "0" * 32, ())
    assert len(view_tag(view, BEGAN)) < MAX_TAG_LENGTH / 2


def test_the_link_opens_the_view() -> None:
    link = view_url("http://localhost:5000/", "7", "sweep-1")
    assert link.startswith("http://localhost:5000/#/experiments/7/runs?")
    query = parse_qs(urlsplit("http://x/" + link.split("#")[1]).query)
    assert query == {"viewStateShareKey": ["sweep-1"], "compareRunsMode": ["CHART"]}
