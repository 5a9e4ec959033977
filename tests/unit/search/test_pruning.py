"""Pruners: the same decisions as Optuna's, in both directions, with the numbers in the reason."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from sweeper.errors import SpecError
from sweeper.records import FlowReport
from sweeper.running.objective_run import ENDLESS, options_of
from sweeper.running.trial import Curves, EndedBefore, TrialRun
from sweeper.search.ordered_costs import OrderedCosts
from sweeper.search.pruning import Judged, Objective, make_pruner

EPOCHS = 20
LOSS = Objective("val_loss", "minimize", EPOCHS)


def curves(rng, n, sign=1.0):
    """Falling curves (rising for sign -1) with different ends."""
    ends, noise = rng.random((n, 1)), 0.05 * rng.random((n, EPOCHS))
    return (sign * (ends + np.exp(-np.arange(EPOCHS) / 5) + noise)).tolist()


def optuna_decides(pruner, direction, finished, curve):
    """Optuna's answer after the last epoch of ``curve``, with complete trials ``finished``."""
    study = optuna.create_study(direction=direction, pruner=pruner)
    for other in finished:
        study.add_trial(
            optuna.create_trial(state=OptunaState.COMPLETE, value=other[-1], intermediate_values=dict(enumerate(other)))
        )
    trial = study.ask()
    for step, value in enumerate(curve):
        trial.report(value, step)
    return trial.should_prune()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", ["median", "percentile"])
def test_median_and_percentile_decide_as_optuna(name, direction):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng = np.random.default_rng(0)
    sign = 1.0 if direction == "minimize" else -1.0
    peer = {
        "median": optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3),
        "percentile": optuna.pruners.PercentilePruner(25.0, n_startup_trials=5, n_warmup_steps=3),
    }[name]
    pruner = make_pruner(name, {"warmup": 3}, objective=Objective("val_loss", direction, EPOCHS))
    stopped = 0
    for count in (0, 4, 5, 12):
        finished = curves(rng, count, sign)
        for curve in curves(rng, 5, sign):
            for epochs in (1, 3, 4, 10):
                decision = pruner.decide(Judged(99, curve[:epochs], dict(enumerate(finished))))
                assert decision.stop == optuna_decides(peer, direction, finished, curve[:epochs])
                stopped += decision.stop
    assert stopped > 5


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_asynchronous_halving_decides_as_optuna_while_trials_arrive_one_by_one(direction):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sign = 1.0 if direction == "minimize" else -1.0
    study = optuna.create_study(
        direction=direction, pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    )
    pruner = make_pruner("asha", {"first": 1}, objective=Objective("val_loss", direction, EPOCHS))
    known, stops = {}, 0
    for number, curve in enumerate(curves(np.random.default_rng(1), 40, sign)):
        trial = study.ask()
        for epochs in range(1, EPOCHS):
            trial.report(curve[epochs - 1], epochs)  # Optuna counts resources from 1
            known[number] = curve[:epochs]
            decision = pruner.decide(Judged(number, curve[:epochs], known))
            assert decision.stop == trial.should_prune(), f"trial {number} after {epochs} epochs"
            if decision.stop:
                stops += 1
                break
        study.tell(trial, curve[-1])
    assert 20 < stops < 40


def test_a_reason_names_the_values_the_epoch_and_how_many_were_compared():
    peers = {n: [1.0, 0.5, 0.41] + [0.4] * 17 for n in range(6)}
    decision = make_pruner("median", objective=LOSS).decide(Judged(9, [2.5, 1.95, 1.92], peers))
    assert decision.reason == "val_loss 1.92 at epoch 3 is worse than the median 0.41 of 6 earlier trials"
    decision = make_pruner("asha", objective=LOSS).decide(Judged(9, [2.5, 1.9, 1.92], {**peers, 9: [2.5, 1.9, 1.92]}))
    assert decision.reason == "val_loss 1.92 at epoch 3 is place 7 of 7 trials there, of which the best 2 go on"


def test_accuracy_is_shown_as_it_is_not_negated():
    pruner = make_pruner("median", objective=Objective("val_accuracy", "maximize", 2))
    decision = pruner.decide(Judged(9, [0.31], {n: [0.9, 0.95] for n in range(5)}))
    assert decision.reason == "val_accuracy 0.31 at epoch 1 is worse than the median 0.9 of 5 earlier trials"


@pytest.mark.parametrize("name", ["median", "percentile", "asha", "hyperband"])
def test_peers_whose_costs_are_kept_in_order_give_the_decisions_that_looking_at_all_of_them_gives(name):
    rng = np.random.default_rng(2)
    pruner = make_pruner(name, objective=LOSS)
    whole = [[round(float(v), 2) for v in curve] for curve in curves(rng, 60, 1.0)]  # equal values are frequent
    trials = {n: TrialRun({}, curve=c if n % 4 else c[: 3 + n % 7]) for n, c in enumerate(whole)}
    trials[7].curve[4] = math.nan
    ordered, stopped = OrderedCosts(Curves(trials)), 0
    for step, number in enumerate(rng.permutation(range(20, 60))):
        end = int(number) - 8
        if step == 20:  # a user has reopened a trial
            trials[3].curve = [9.0] * EPOCHS
            ordered.forget(3)
        for epochs in pruner.legs(EPOCHS):
            peers = EndedBefore(trials, end, ordered)
            judged = Judged(int(number), whole[number][:epochs], peers)
            plain = replace(judged, peers={n: list(trials[n].curve) for n in range(end)})
            assert pruner.decide(judged) == pruner.decide(plain)
            stopped += pruner.decide(judged).stop
    assert stopped > 5


@pytest.mark.parametrize("name", ["median", "percentile", "asha", "hyperband"])
def test_nothing_is_stopped_without_peers(name):
    pruner = make_pruner(name, objective=LOSS)
    assert not any(pruner.decide(Judged(0, [1.0] * epochs)).stop for epochs in pruner.legs(EPOCHS))


def test_synchronous_halving_stops_nothing_in_a_batch_of_one():
    pruner = make_pruner("halving", objective=LOSS)
    assert not any(pruner.decide_batch({0: 1.0}, epochs)[0].stop for epochs in pruner.legs(EPOCHS))


def test_median_does_not_compare_with_trials_that_were_themselves_stopped_or_still_run():
    short = {n: [0.1, 0.1] for n in range(10)}
    assert not make_pruner("median", objective=LOSS).decide(Judged(99, [5.0, 5.0], short)).stop


def test_legs_end_where_something_is_decided():
    legs = {name: make_pruner(name, objective=LOSS).legs(EPOCHS) for name in ("none", "asha", "halving", "hyperband")}
    assert legs == {"none": [], "asha": [3, 9], "halving": [1, 2, 4, 8, 16], "hyperband": [3, 9]}
    assert make_pruner("median", {"warmup": 4, "interval": 5}, objective=LOSS).legs(EPOCHS) == [5, 10, 15]
    assert make_pruner("plateau", {"patience": 16}, objective=LOSS).legs(EPOCHS) == [17, 18, 19]
    assert make_pruner("asha", {"first": 2, "eta": 2}, objective=LOSS).legs(EPOCHS) == [2, 4, 8, 16]


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (9, 1), (10, 2), (20, 3), (52, 6), (100, 12)])
def test_nobody_is_judged_by_the_first_ninth_of_the_epochs(epochs: int, first: int) -> None:
    goal = replace(LOSS, epochs=epochs)
    for name in ("median", "percentile", "asha", "hyperband"):
        pruner = make_pruner(name, objective=goal)
        assert pruner.legs(epochs)[:1] == ([first] if first < epochs else [])
    peers = {n: [0.1] * epochs for n in range(9)}
    decisions = [make_pruner("median", objective=goal).decide(Judged(9, [1.0] * n, peers)) for n in (first - 1, first)]
    assert [decision.stop for decision in decisions] == [False, True]


def test_trials_of_an_objective_are_judged_from_their_first_report_on_where_nobody_says_how_many_there_are() -> None:
    for reports, first in ((None, 1), (52, 6)):
        for name, epochs in (("median", 1), ("asha", reports or ENDLESS)):
            pruner = make_pruner(name, options_of(name, reports), objective=replace(LOSS, epochs=epochs))
            assert pruner.legs(60)[0] == first


def test_synchronous_halving_keeps_the_best_half_of_a_batch_whatever_the_order_of_arrival():
    pruner = make_pruner("halving", objective=LOSS)
    values = {10: 0.5, 11: 0.1, 12: 0.9, 13: 0.2, 14: math.nan, 15: 0.3, 16: 0.1}
    decisions = pruner.decide_batch(values, 2)
    assert {n for n, d in decisions.items() if not d.stop} == {11, 13, 16}
    assert pruner.decide_batch(dict(reversed(values.items())), 2) == decisions
    assert decisions[12].reason == "val_loss 0.9 at epoch 2 is place 6 of 7 in its batch, of which the best 3 go on"


def test_synchronous_halving_stops_a_diverged_batch_but_breaks_ties_by_number():
    pruner = make_pruner("halving", objective=LOSS)
    assert all(d.stop for d in pruner.decide_batch({0: math.nan, 1: math.inf}, 1).values())
    assert [n for n, d in pruner.decide_batch({4: 1.0, 3: 1.0, 5: 1.0}, 1).items() if not d.stop] == [3]


def test_hyperband_deals_trials_to_brackets_and_compares_within_them_only():
    pruner = make_pruner("hyperband", {"first": 1}, objective=LOSS)
    brackets = [pruner.bracket(n) for n in range(170)]
    counts = np.bincount(brackets)
    assert len(counts) == 3
    assert counts[0] > counts[1] > counts[2]
    last = [n for n in range(170) if brackets[n] == 2]
    peers = {n: [0.1] * EPOCHS for n in range(170) if n != last[-1]}
    assert not pruner.decide(Judged(last[-1], [9.0], peers)).stop, "bracket 2 begins at epoch 9"
    assert pruner.decide(Judged(last[-1], [9.0] * 9, peers)).stop
    assert not pruner.decide(Judged(last[-1], [9.0] * 9, {n: c for n, c in peers.items() if n not in last})).stop


def test_plateau_stops_after_patience_epochs_without_improvement():
    pruner = make_pruner("plateau", {"patience": 3}, objective=LOSS)
    falling = [1.0, 0.9, 0.8, 0.7, 0.6]
    assert not pruner.decide(Judged(0, falling, {})).stop
    assert not pruner.decide(Judged(0, [*falling, 0.6, 0.61], {})).stop
    decision = pruner.decide(Judged(0, [*falling, 0.6, 0.61, 0.6], {}))
    assert decision.stop
    assert decision.reason == "val_loss has not improved for 3 epochs: best 0.6 at epoch 5"


@pytest.mark.parametrize("name", ["median", "asha", "hyperband", "plateau"])
def test_values_that_are_not_finite_are_the_worst_and_crash_nothing(name):
    pruner = make_pruner(name, objective=LOSS)
    peers = {n: [math.nan, math.inf, 0.5] + [0.5] * 17 for n in range(8)} | {8: [math.nan] * 20}
    for curve in ([math.nan], [0.3], [math.inf, math.nan, 0.2], [0.4, 0.4, math.nan], [math.nan] * 9):
        assert isinstance(pruner.decide(Judged(20, curve, peers)).stop, bool)
    assert make_pruner("asha", objective=LOSS).decide(Judged(20, [1.0, 1.0, math.nan], peers)).stop


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("medain", {}, "Did you mean 'median'"),
        ("median", {"wramup": 3}, "Did you mean 'warmup'"),
        ("asha", {"eta": 1}, "at least 2"),
        ("asha", {"first": 0}, "at least 1"),
        ("percentile", {"percentile": 120}, "0 to 100"),
        ("plateau", {"patience": 2.5}, "whole number"),
        ("plateau", {"patience": math.nan}, "at least 1"),
        ("plateau", {"patience": True}, "at least 1"),
    ],
)
def test_a_wrong_name_or_option_is_refused_with_the_remedy(name, options, message):
    with pytest.raises(SpecError, match=message) as caught:
        make_pruner(name, options, objective=LOSS)
    assert caught.value.key.startswith("search.pruner")


def test_halving_finds_the_best_configuration_for_a_fraction_of_the_epochs():
    """27 trials in batches of 9 whose order shows early: one as good as the best survives."""
    rng = np.random.default_rng(2)
    pruner = make_pruner("halving", objective=LOSS)
    everything = dict(enumerate(curves(rng, 27)))
    spent, survivors = 0, []
    for start in range(0, 27, 9):
        alive = range(start, start + 9)
        for previous, rung in zip([0, *pruner.legs(EPOCHS)], [*pruner.legs(EPOCHS), EPOCHS], strict=True):
            spent += (rung - previous) * len(alive)
            if rung < EPOCHS:
                decisions = pruner.decide_batch({n: everything[n][rung - 1] for n in alive}, rung)
                alive = [n for n in alive if not decisions[n].stop]
        survivors += alive
    best = min(curve[-1] for curve in everything.values())
    assert min(everything[n][-1] for n in survivors) < best + 0.05
    assert spent < 0.4 * 27 * EPOCHS


def test_gradient_flow_stops_a_trial_whose_first_layer_gets_no_gradient_and_no_other():
    pruner = make_pruner("gradient_flow", {"warmup": 2}, objective=LOSS)
    assert pruner.legs(6) == [3, 4, 5]
    assert not pruner.decide(Judged(0, [9.0] * 5, {})).stop
    layer = {"weight_norm": 1.0, "update_ratio": 1e-3, "activation_mean": 0.0, "activation_std": 1.0, "dead": 0.75}

    def decided(first, **params):
        flow = FlowReport(4, ({**layer, "grad_norm": first}, {**layer, "grad_norm": 1.0}))
        return pruner.decide(Judged(0, [9.0] * 5, flow=flow, params=params))

    assert decided(1e-5).reason.startswith("vanishing: the first of 2 layers gets 1e-05 times")
    assert decided(1e-5).reason.endswith("after epoch 4")
    assert decided(1e5).stop
    assert decided(1.0, initialization="zeros").stop
    assert not decided(0.1).stop  # most units are dead, which is no reason to stop
