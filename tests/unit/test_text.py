"""Numbers are written so that people can read them."""

from __future__ import annotations

import math

import pytest

from sweeper.cli.progress import short
from sweeper.text import counted, from_to, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.064213, "0.06421"),
        (1.2e-7, "1.2e-07"),
        (-2273.4, "-2273"),
        (31450.4, "31,450"),
        (-1234567.0, "-1,234,567"),
        (9999.6, "10,000"),
        (1e20, "1e+20"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_four_digits_or_a_whole_number_with_separators(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_of_parameters_has_its_commas_between_them_only() -> None:
    params = {"learning_rate": 3e-4, "parameters": 25482.0, "hidden_layers": [128, 128], "activation": "relu"}
    assert short(params) == "learning_rate=0.0003, parameters=25482, hidden_layers=[128, 128], activation=relu"


def test_few_digits_are_no_powers_of_ten() -> None:
    assert [number(value, 2) for value in (0.0642, 12.4, 99.7, 347.2, 7270.0)] == ["0.064", "12", "100", "347", "7,270"]
    assert from_to(16.64, 7270.0, 3) == "16.6 to 7,270"


def test_one_thing_has_no_plural() -> None:
    assert [counted(n, "column") for n in (0, 1, 2000)] == ["0 columns", "1 column", "2,000 columns"]
