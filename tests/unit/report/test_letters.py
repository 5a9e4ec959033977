"""Labels in letters that no font here has, and labels that are too long for a picture."""

from __future__ import annotations

import warnings

import numpy as np
from matplotlib.figure import Figure

from sweeper.insight.winner_check import check_classes
from sweeper.report import letters
from sweeper.report.figures import figure_of
from sweeper.report.svg import draw
from sweeper.report.winner import confusion_matrix

EASTERN = ("中文标签", "日本語ラベル", "한국어", "naïve – ümlaut")


def matrix_of(names: tuple[str, ...]) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    y = rng.integers(len(names), size=60)
    plot = confusion_matrix(check_classes(0, rng.normal(size=(60, len(names))), y, names, 0))
    return plot.svg, plot.caption


def test_a_report_leaves_eastern_letters_to_the_browser_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, _ = matrix_of(EASTERN)
    assert all(f">{name}<" in svg for name in EASTERN)


def test_a_picture_escapes_the_letters_that_no_font_has() -> None:
    unknown = "\U00016e60"  # a letter of Medefaidrin

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xticks([0, 1], [f"a{unknown}", "ümlaut"])
        axes.set_title(f"b{unknown}")

    picture = figure_of(draw("x", "", "", "", 2.0, paint))
    texts = {text.get_text() for text in picture.findobj(letters.Text)}
    assert {r"a\U00016e60", "ümlaut", r"b\U00016e60"} <= texts, texts


def test_long_labels_stay_distinct_and_the_caption_has_them_whole() -> None:
    names = tuple(f"a very long class label that differs at its end only: number {i} of three" for i in range(3))
    svg, caption = matrix_of(names)
    assert all(f">[{i + 1}] a very lo…<" in svg for i in range(3))
    assert all(name in caption for name in names)
    assert letters.short_labels(["short", "a name of sixteen"]) == (["short", "a name of six…"], [])
