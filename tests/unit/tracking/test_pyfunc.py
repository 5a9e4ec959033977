"""Cells of raw rows become the numbers that the network takes, however they were read."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from sweeper.data.numerals import MISSING, Writing, read_number
from sweeper.tracking.pyfunc import codes, numbers

HOLES = list(MISSING)


def test_numbers_and_flags_may_come_as_texts() -> None:
    column = pd.Series(["5.1", " 3", "True", "false", "?", None, pd.NA, True, 2], dtype=object)
    np.testing.assert_array_equal(numbers(column, read_number), [5.1, 3, 1, 0, np.nan, np.nan, np.nan, 1, 2])
    np.testing.assert_array_equal(numbers(pd.Series([True, False]), read_number), [1, 0])


def test_texts_are_the_positions_of_their_categories() -> None:
    column = pd.Series(["b", "a", "c", None, "NA", ""], dtype=object)
    np.testing.assert_array_equal(codes(column, ["a", "b"], HOLES), [1, 0, -1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(codes(pd.Series(["NA", "?"]), ["a", "NA"], HOLES), [1, np.nan])


def test_texts_that_a_reader_took_for_numbers_or_flags_are_known_again() -> None:
    known = ["007", "8", "x", "true"]
    np.testing.assert_array_equal(codes(pd.Series([7, 8, 9]), known, HOLES), [0, 1, -1])
    np.testing.assert_array_equal(codes(pd.Series([7.0, np.nan]), known, HOLES), [0, np.nan])
    np.testing.assert_array_equal(codes(pd.Series([True]), known, HOLES), [3])
    np.testing.assert_array_equal(codes(pd.Series([7]), ["007", "7"], HOLES), [-1])  # either could be meant
    np.testing.assert_array_equal(codes(pd.Series(["7"]), ["007", "7"], HOLES), [1])


def test_numbers_are_read_as_they_were_written_in_training_and_others_are_located() -> None:
    euros = partial(read_number, writing=Writing(",", ".", "€"))
    column = pd.Series(["€ 1.498,50", "−2 €", "-", 7.5, None], name="price")
    np.testing.assert_array_equal(numbers(column, euros), [1498.5, -2, np.nan, 7.5, np.nan])
    with pytest.raises(ValueError, match=r"column 'price', row 2: '1,498\.50' is not a number in €"):
        numbers(pd.Series(["1", "1,498.50"], name="price"), euros)
