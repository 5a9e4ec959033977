"""Numbers as people write them: what a whole column tells of its writing, and what it leaves open."""

from __future__ import annotations

import math

import pytest

from sweeper.data.numerals import Doubt, Writing, is_mark, read_number, writing_of


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,498", "998", "2,500"], [1498, 998, 2500]),
        (["1,498.00", "12,345,678.5"], [1498, 12345678.5]),
        (["1,49,800.00", "5"], [149800, 5]),
        (["$1,498.00", "-$3", "$-4"], [1498, -3, -4]),
        (["€ 1.498,00", "7,5 €"], [1498, 7.5]),
        (["USD 1,200.50", "usd 5"], [1200.5, 5]),
        (["1.498,00-", "3,1"], [-1498, 3.1]),
        (["12.3%", "5 %", "0"], [12.3, 5, 0]),
        (["(12.50)", "3.20", "($4)"], [-12.5, 3.2, -4]),
        (["5 kg", "12 KG", "3.5kg."], [5, 12, 3.5]),
        (["1 day", "3 days"], [1, 3]),
        (["1 498", "12", "1\u00a0498,5", "1\u202f000"], [1498, 12, 1498.5, 1000]),
        (["1'498.00", "1’000"], [1498, 1000]),
        (["1_000", "5"], [1000, 5]),
        (["1e3", "−5", "+2.5E-1", ".5", "5."], [1000, -5, 0.25, 0.5, 5]),
        (["1,5e3", "2,25"], [1500, 2.25]),
        (["0,498", "1,234"], [0.498, 1.234]),
        (["€110.5M", "€565K", "€0"], [110.5e6, 565e3, 0]),
        (["１２", "3"], [12, 3]),
        (["1.498", "12.300"], [1.498, 12.3]),
    ],
)
def test_what_is_unambiguous_over_the_whole_column_is_read(cells: list[str], numbers: list[float]) -> None:
    writing = writing_of([*cells, "-", "n/a", ".", "?"])
    assert isinstance(writing, Writing)
    assert [read_number(cell, writing) for cell in cells] == pytest.approx(numbers, rel=1e-15)
    assert all(math.isnan(read_number(mark, writing)) for mark in ("-", "n/a", ".", "?", " NA ", "—"))


@pytest.mark.parametrize(
    "cells",
    [
        ["007", "012"],
        ["01", "26"],
        ["+49 170 1234567", "+49 171 000 000"],
        ["170 123 456", "170 999 456"],
        ["5551234567", "5559876543"],
        ["28.11.2026", "01.12.2026"],
        ["2026-11-28"],
        ["10:30"],
        ["3/4"],
        ["1.2.3"],
        ["Q1", "Q2"],
        [f"{i} {name} Street" for i, name in enumerate(("Main", "High", "Park", "Mill", "Oak", "Elm"))],
        ["10,000+"],
        ["<0.01"],
        ["a", "-"],
    ],
)
def test_codes_dates_and_phone_numbers_stay_texts(cells: list[str]) -> None:
    assert writing_of(cells) is None


@pytest.mark.parametrize(
    ("cells", "cell", "words"),
    [
        (["1,498", "2,311"], "1,498", "may be 1,498 or 1.498"),
        (["1,498", "1.498"], "1,498", "may be"),
        (["$1.498", "$2.500"], "$1.498", "may be"),
        (["1,498.00", "1.498,00", "2.5"], "1.498,00", "is not a number with commas between thousands"),
        (["5 kg", "5"], "5", "has no unit, and others have kg"),
        (["5%", "7"], "7", "has no unit"),
        (["5 kg", "2 lb"], "2 lb", "is in lb, and others are in kg"),
        (["$5", "€5"], "€5", "is in €, and others are in $"),
    ],
)
def test_what_can_be_read_in_two_ways_is_a_doubt_about_one_cell(cells: list[str], cell: str, words: str) -> None:
    doubt = writing_of(cells)
    assert isinstance(doubt, Doubt)
    assert doubt.cell == cell
    assert words in doubt.problem


def test_the_rest_of_the_file_decides_where_a_column_leaves_it_open() -> None:
    assert writing_of(["1,498", "2,311"], ".") == Writing(".", ",")
    assert writing_of(["1,498", "2,311"], ",") == Writing(",")
    assert writing_of(["$1.498", "$2.311"], ",") == Writing(",", ".", "$")


def test_codes_of_a_regression_are_numbers() -> None:
    assert writing_of(["007", "012"], codes=True) == Writing()


def test_a_cell_of_another_writing_is_no_number() -> None:
    for cell, writing in (("1.5", Writing(",", ".")), ("many", Writing()), ("5 lb", Writing(unit="kg"))):
        with pytest.raises(ValueError, match="is not a number"):
            read_number(cell, writing)
    assert is_mark("\u00a0-\u00a0")
    assert (read_number(True), read_number("False"), read_number(2)) == (1.0, 0.0, 2.0)
