"""Pictures of a winner's predictions: confusion matrix and reliability diagram, or residuals; and what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sweeper.insight.winner_check import OTHERS, Check, ClassCheck, ValueCheck
from sweeper.report.letters import extra_width, short_labels
from sweeper.report.svg import BLUE, INK, ORANGE, Plot, draw
from sweeper.text import from_to, number, shown

MISTAKES = 3  # that are told in words
SURE = 0.05
LABEL_SIZE, LABEL_PAD = 9.0, 4.0  # points: of the names of classes, and between them and an axis' title


def winner_plots(check: Check) -> list[Plot]:
    """What there is to draw of a check."""
    if isinstance(check, ClassCheck):
        return [confusion_matrix(check), reliability(check)]
    return [residuals(check)]


def winner_sentences(check: Check) -> list[str]:
    """What the predictions look like, in words."""
    return _class_sentences(check) if isinstance(check, ClassCheck) else _value_sentences(check)


def confusion_matrix(check: ClassCheck) -> Plot:
    """Rows are the true classes; the shade is the share of the row, the number counts."""
    counts = np.array(check.confusion, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    size = len(check.classes)
    names, legend = short_labels(check.classes)
    pad = max(extra_width(name, LABEL_SIZE) for name in names)  # points

    def paint(figure: Figure) -> None:
        axes: Any = figure.add_subplot()
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column] > 0:
                colour = BLUE if row == column else ORANGE
                box = {"facecolor": colour, "alpha": 0.35 + 0.3 * share, "linewidth": 0}
                axes.add_patch(_square(column, row, box))
                axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=8)
        long = max(map(len, names)) > 3 and size > 4
        axes.set_xticks(range(size), names, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set_yticks(range(size), names)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_xlabel("predicted", labelpad=LABEL_PAD + (pad if long else 0.0))
        axes.set_ylabel("true", labelpad=LABEL_PAD + pad)
        axes.grid(visible=False)

    caption = "Rows of the validation split by true and predicted class: blue was right, orange wrong, darker is a "
    caption += "larger share of the true class."
    if OTHERS in check.classes:
        caption += f" Only the {size - 1} classes with the most mistakes have a line of their own."
    if legend:
        caption += f" {'; '.join(shown(line, 500) for line in legend)}."
    alt = f"Confusion matrix of {size} classes: {check.right:,} of {check.rows:,} rows are on the diagonal."
    return draw("confusion", "Confusion matrix", caption, alt, min(6.5, 0.3 * size + 1.6), paint)


def reliability(check: ClassCheck) -> Plot:
    """Accuracy against confidence, with Wilson's interval for each bin."""
    from scipy import stats

    middles = np.array([b.confidence for b in check.bins])
    shares = np.array([b.accuracy for b in check.bins])
    intervals = [stats.binomtest(round(b.accuracy * b.rows), b.rows).proportion_ci(method="wilson") for b in check.bins]
    low = np.maximum(0.0, shares - [i.low for i in intervals])
    high = np.maximum(0.0, np.array([i.high for i in intervals]) - shares)

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        panels[0].plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1.2, label="calibrated")
        panels[0].errorbar(middles, shares, yerr=[low, high], fmt="o-", color=BLUE, capsize=3, label="the winner")
        panels[0].set_ylabel("share right")
        panels[0].set_ylim(-0.03, 1.03)
        panels[0].legend(loc="upper left")
        panels[1].bar(middles, [b.rows for b in check.bins], width=0.03, color=BLUE)
        panels[1].set_ylabel("rows")
        panels[1].set_xlabel("confidence in the predicted class")

    caption = "Below the dotted line the network is too sure of itself. Whiskers are 95% intervals (Wilson): bins "
    caption += "with few rows say little."
    parts = (f"{b.confidence:.2f} said, {b.accuracy:.2f} right, {b.rows:,} rows" for b in check.bins)
    alt = f"Reliability diagram: {'; '.join(parts)}."
    return draw("calibration", "Calibration", caption, alt, 3.6, paint)


def residuals(check: ValueCheck) -> Plot:
    """Predictions against the truth, and errors against predictions."""
    truth, predicted = np.array(check.points).T

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(1, 2)
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        panels[0].plot(ends, ends, color=INK, linestyle=":", linewidth=1.2)
        panels[0].scatter(truth, predicted, s=13, color=BLUE, alpha=0.6, linewidths=0)
        panels[0].set_xlabel(f"true {check.target[:40]}")
        panels[0].set_ylabel("predicted")
        panels[0].set_title("Predictions")
        panels[1].axhline(0, color=INK, linestyle=":", linewidth=1.2)
        panels[1].scatter(predicted, predicted - truth, s=13, color=BLUE, alpha=0.6, linewidths=0)
        panels[1].set_xlabel("predicted")
        panels[1].set_ylabel("predicted - true")
        panels[1].set_title("Residuals")
        for axes in panels:
            axes.xaxis.set_major_locator(MaxNLocator(4))  # of six digits more would run into each other

    sampled = f" {len(truth):,} of {check.rows:,} rows are drawn." if len(truth) < check.rows else ""
    caption = f"Rows of the validation split, in the target's unit; on the dotted lines predictions are right.{sampled}"
    alt = f"Predicted against true values and residuals against predictions of {len(truth):,} rows: root mean squared "
    alt += f"error {number(check.rmse)}, R² {check.explained:.2f}."
    return draw("residuals", "Residuals", caption, alt, 3.4, paint)


def _square(column: int, row: int, style: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, **style)


def _class_sentences(check: ClassCheck) -> list[str]:
    from scipy import stats

    share = stats.binomtest(check.right, check.rows).proportion_ci(method="wilson")
    accuracy = check.right / check.rows
    found = [
        f"{check.right:,} of {check.rows:,} rows are right: {accuracy:.1%} (95%: {share.low:.1%} to {share.high:.1%})."
    ]
    mistakes = [
        (count, row, column)
        for row, line in enumerate(check.confusion)
        for column, count in enumerate(line)
        if row != column and count and OTHERS not in (check.classes[row], check.classes[column])
    ]
    mistakes.sort(key=lambda m: -m[0])
    if mistakes:
        totals = [sum(line) for line in check.confusion]
        parts = [
            f"{shown(check.classes[r])} taken for {shown(check.classes[c])} ({n} of {totals[r]})"
            for n, r, c in mistakes
        ]
        more = f" and {len(mistakes) - MISTAKES} other kinds" if len(mistakes) > MISTAKES else ""
        found.append(f"Most frequent mistakes: {', '.join(parts[:MISTAKES])}{more}.")
    text = f"Expected calibration error {check.calibration_error:.3f}: it says {check.confidence:.1%} on average and "
    text += f"is right in {accuracy:.1%}. "
    if check.calibration_error <= check.calibrated:
        text += f"A perfectly calibrated network reaches up to {check.calibrated:.3f} on as many rows by chance: "
        text += "nothing speaks against its probabilities."
    else:
        claims = "too sure of itself" if check.confidence > accuracy else "less sure of itself than it could be"
        text += f"That is more than chance gives a calibrated network ({check.calibrated:.3f}): it is {claims}; do not "
        text += "take its probabilities at face value."
    return [*found, text]


def _value_sentences(check: ValueCheck) -> list[str]:
    text = f"Root mean squared error {number(check.rmse)}, mean absolute error {number(check.mae)} in the unit of "
    found = [f"{text}{check.target[:60]}, on {check.rows:,} rows; R² {check.explained:.2f}."]
    low, high = check.bias_interval.low, check.bias_interval.high
    if not math.isfinite(low):
        return found
    bounds = f"{number(check.bias)} (95%: {from_to(low, high)})"
    if check.bias_interval.excludes(0.0):
        found.append(f"Predictions are too {'high' if check.bias > 0 else 'low'} on average: by {bounds}.")
    else:
        found.append(f"No bias can be shown: predictions minus true values average {bounds}.")
    if check.growth_p < SURE:
        trend = "grow" if check.growth > 0 else "shrink"
        found.append(f"Errors {trend} with the predicted value (rank correlation {check.growth:.2f}).")
    return found
