"""Cells of raw rows become the numbers that the network takes, however they were read."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sweeper.data.numerals import MISSING
from sweeper.tracking.pyfunc import encode

HOLES = list(MISSING)


def test_numbers_and_flags_may_come_as_texts() -> None:
    column = pd.Series(["5.1", " 3", "True", "false", "?", None, pd.NA, True, 2], dtype=object)
    np.testing.assert_array_equal(encode(column, None, HOLES), [5.1, 3, 1, 0, np.nan, np.nan, np.nan, 1, 2])
    np.testing.assert_array_equal(encode(pd.Series([True, False]), None, HOLES), [1, 0])


def test_texts_are_the_positions_of_their_categories() -> None:
    column = pd.Series(["b", "a", "c", None, "NA", ""], dtype=object)
    np.testing.assert_array_equal(encode(column, ["a", "b"], HOLES), [1, 0, -1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(encode(pd.Series(["NA", "?"]), ["a", "NA"], HOLES), [1, np.nan])


def test_texts_that_a_reader_took_for_numbers_or_flags_are_known_again() -> None:
    codes = ["007", "8", "x", "true"]
    np.testing.assert_array_equal(encode(pd.Series([7, 8, 9]), codes, HOLES), [0, 1, -1])
    np.testing.assert_array_equal(encode(pd.Series([7.0, np.nan]), codes, HOLES), [0, np.nan])
    np.testing.assert_array_equal(encode(pd.Series([True]), codes, HOLES), [3])
    np.testing.assert_array_equal(encode(pd.Series([7]), ["007", "7"], HOLES), [-1])  # either could be meant
    np.testing.assert_array_equal(encode(pd.Series(["7"]), ["007", "7"], HOLES), [1])
