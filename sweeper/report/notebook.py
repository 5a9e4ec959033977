"""A sweep's outcome as a small piece of HTML, which a notebook shows in place of a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sweeper.insight.factors import build_table, label
from sweeper.insight.headline import headline
from sweeper.insight.pareto import best_first
from sweeper.records import SweepRecord, TrialRecord
from sweeper.text import number

if TYPE_CHECKING:
    from sweeper.spec.parse import SweepSpec

ROWS = 5
_CELL = Markup('<td style="text-align: left; padding: 0 1em 0 0">{}</td>')


def result_html(record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord]) -> str:
    """The verdict, the counts and the best trials. Every text is escaped; nothing is loaded."""
    ranked = best_first(trials, spec)
    head = headline(record, spec, trials, ranked, build_table(spec, trials))
    counts = ", ".join(f"{count:,} {state}" for state, count in record.counts.items() if count)
    lines = [
        Markup("<p><b>{}</b> ({}) is {}: {} of {:,} trials.</p>").format(
            record.name, record.sweep, str(record.state), counts or "none", record.requested
        ),
        Markup("<p>{} {}</p>").format(head.verdict, head.certainty),
    ]
    if ranked:
        lines.append(_table(spec, ranked[:ROWS]))
    lines.append(Markup("<p><code>sweeper ui {0}</code>, <code>sweeper report {0}</code></p>").format(record.sweep))
    return Markup("<div>{}</div>").format(Markup("").join(lines))


def _table(spec: SweepSpec, best: Sequence[TrialRecord]) -> Markup:
    names = list(dict.fromkeys(name for trial in best for name in trial.params or {}))
    rows = [["trial", spec.objective.metric, *names]]
    for trial in best:
        params = trial.params or {}
        cells = [_shown(params[name]) if name in params else "" for name in names]
        rows.append([str(trial.number), _shown(trial.value), *cells])
    made = [Markup("<tr>{}</tr>").format(Markup("").join(_CELL.format(cell) for cell in row)) for row in rows]
    return Markup("<table>{}</table>").format(Markup("").join(made))


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) else label(value)
