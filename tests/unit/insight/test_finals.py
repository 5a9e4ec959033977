"""The finals' outcome is put into words that say no more than the numbers do."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sweeper.insight.finals import FinalsOutcome, percent, read_finals
from sweeper.ledger.memory import MemoryLedger
from tests.ended_sweeps import new_sweep, spec_of
from tests.finals_outcome import outcome

CLEAR = {7: [0.10, 0.11, 0.12, 0.10, 0.11], 4: [0.20, 0.22, 0.21, 0.20, 0.23], 9: [0.31, 0.30, 0.33, 0.30, 0.32]}
CLOSE = {7: [0.10, 0.14, 0.12, 0.11, 0.13], 4: [0.11, 0.12, 0.13, 0.13, 0.12], 9: [0.31, 0.30, 0.33, 0.30, 0.32]}


def finals_of(data: dict[str, object]) -> FinalsOutcome:
    record = new_sweep(MemoryLedger(), spec_of())
    finals = read_finals(replace(record, summary={"finals": data}))
    assert finals is not None
    return finals


def test_a_sweep_without_finals_has_none() -> None:
    assert read_finals(new_sweep(MemoryLedger(), spec_of())) is None


def test_an_outcome_is_the_same_after_its_way_through_json() -> None:
    finals = finals_of(outcome({**CLEAR, 2: [0.05, math.nan, 0.05, 0.05, 0.05]}))
    again = FinalsOutcome.from_json(json.loads(json.dumps(finals.to_json(), allow_nan=False)))
    assert repr(again) == repr(finals)  # NaN is not equal to itself


def test_a_clear_winner_is_named_with_its_mean_and_interval() -> None:
    finals = finals_of(outcome(CLEAR))
    first = finals.standings[0]
    assert finals.verdict.startswith("Trial 7 wins: test_loss 0.108 (")
    assert finals.verdict.endswith(", mean of 5 seeds.")
    assert first.low < 0.108 < first.high
    certainty = finals.certainty(searched_best=9)
    assert "3 finalists were trained again on 5 fresh seeds each and judged on 400 test rows" in certainty
    assert "best of them with a probability of above 99%" in certainty
    assert "The best trial of the search, 9, comes third." in certainty
    assert "comes" not in finals.certainty(searched_best=7)


def test_leaders_that_cannot_be_told_apart_are_all_named() -> None:
    finals = finals_of(outcome(CLOSE))
    assert finals.verdict.startswith("Trial 7 leads; on new rows it cannot be told apart from 4; 4 is the cheapest")
    certainty = finals.certainty(searched_best=4)
    assert f"with its 95% interval {finals.interval}: trial 7 0.12 (" in certainty
    assert "for new rows and new seeds" in finals.interval


def test_what_would_tell_the_leaders_apart_is_said_in_rows_and_seeds() -> None:
    """Rows differ much here, seeds little: more rows help, more seeds do not."""
    assert finals_of(outcome(CLEAR)).next_step == ""
    near = {7: [0.100, 0.101, 0.102], 4: [0.110, 0.112, 0.111]}
    finals = finals_of(outcome(near, noise=0.09))
    assert finals.rows_to_settle is not None
    assert finals.seeds_to_settle is None
    assert f"about {finals.rows_to_settle:,} test rows show them" in finals.next_step
    few = finals_of(outcome(near, noise=0.3))
    assert few.rows_to_settle is not None
    assert "400 test rows cannot tell the leaders apart" in few.next_step
    assert f"about {few.rows_to_settle:,} test rows, or `finals: {{repeats: 10, folds: 5}}`" in few.next_step
    alike = finals_of(outcome({7: [0.10, 0.30, 0.20], 4: [0.20, 0.10, 0.30001]}))
    assert "What may: `finals: {repeats: 10, folds: 5}`" in alike.next_step


def test_the_selection_bias_is_the_mean_loss_of_the_finalists_on_fresh_seeds() -> None:
    searched = {7: 0.10, 4: 0.20, 9: 0.35}
    text = finals_of(outcome(CLEAR, searched)).bias("val_loss")
    # 0.108 - 0.10, 0.212 - 0.20 and 0.312 - 0.35
    assert "no worse than what the search saw (2 of 3 finalists are worse)" in text
    lucky = finals_of(outcome(CLEAR, {7: 0.098, 4: 0.202, 9: 0.302})).bias("val_loss")
    assert "is 0.01 (5%) worse on average" in lucky
    assert "3 of 3 finalists are worse" in lucky


def test_a_finalist_that_diverged_is_out_and_its_place_says_so() -> None:
    finals = finals_of(outcome({**CLEAR, 2: [0.05, math.nan, 0.05, 0.05, 0.05]}))
    assert finals.standings[-1].trial == 2
    assert finals.standings[-1].diverged == 1
    assert math.isnan(finals.standings[-1].mean)
    assert finals.leaders == (7,)


def test_when_every_finalist_diverged_there_is_no_winner() -> None:
    finals = finals_of(outcome({1: [math.nan], 2: [math.nan]}))
    assert finals.verdict == "Every finalist diverged on some seed: there is no winner."


@pytest.mark.parametrize(("share", "words"), [(1.0, "above 99%"), (0.0, "below 1%"), (0.42, "42%")])
def test_a_probability_from_draws_is_never_certain(share: float, words: str) -> None:
    assert percent(share) == words
