"""The ready-made comparison view of a sweep in the MLflow UI, as the text the UI keeps in an experiment tag."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sweeper.tracking.entries import RATIO

TAG_PREFIX = "mlflow.sharedViewState."
MAX_TAG_LENGTH = 8000
MAX_AXES = 8  # parallel coordinates with more axes cannot be read
BEST, FINALS, GOALS, EFFECTS, CURVES = "best-trials", "finals", "objectives", "effects", "learning-curves"
FLOW = "gradient-flow"
FINAL_METRICS = ("final_mean", "final_low", "final_high")


@dataclass(frozen=True)
class SweepView:
    """What the view shows of one sweep.

    ``params`` are all parameter names in the space's order, ``axes`` those that every trial has and that vary,
    ``numeric`` those that are numbers, whether every trial has them or not. ``curves`` are the per-epoch metrics,
    ``summaries`` the others, ``goals`` the further objectives, ``flow`` the metrics of gradient flow. ``finalists`` are
    the runs that were trained again, best first.
    """

    title: str
    parent: str
    metric: str
    maximize: bool
    params: tuple[str, ...]
    axes: tuple[str, ...]
    numeric: tuple[str, ...]
    curves: tuple[str, ...]
    summaries: tuple[str, ...]
    goals: tuple[str, ...] = ()
    flow: tuple[str, ...] = ()
    finalists: tuple[str, ...] = ()


def view_tag(view: SweepView, created_at: float) -> str:
    """The value of the experiment tag ``TAG_PREFIX + key``: a named view that the UI lists and a link opens.

    The state is compressed as the UI does it, which keeps every view far below the limit of a tag.
    """
    state = json.dumps(_state(view), separators=(",", ":")).encode()
    packed = "deflate;" + base64.b64encode(zlib.compress(state, 9)).decode()
    value = json.dumps({"name": view.title, "createdAt": int(created_at * 1000), "state": packed})
    if len(value) > MAX_TAG_LENGTH:
        raise ValueError(f"the view of {view.title!r} takes {len(value)} characters of {MAX_TAG_LENGTH}")
    return value


def view_url(base: str, experiment: str, key: str) -> str:
    """The link that opens the ready-made view."""
    return f"{_runs_page(base, experiment)}?{urlencode({'viewStateShareKey': key, 'compareRunsMode': 'CHART'})}"


def _runs_page(base: str, experiment: str) -> str:
    return f"{base.rstrip('/')}/#/experiments/{quote(experiment)}/runs"


def _filter(parent: str) -> str:
    return f"tags.`mlflow.parentRunId` = '{parent}'"


def _state(view: SweepView) -> dict[str, Any]:
    return {
        "searchFilter": _filter(view.parent),
        "orderByKey": "metrics.`objective`",
        "orderByAsc": not view.maximize,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "compareRunsMode": "CHART",
        "selectedColumns": _columns(view),
        "runsHiddenMode": "FIRST_20_RUNS",
        "runsPinned": list(view.finalists),
        "runsHidden": [],
        "runsExpanded": {},
        "runsVisibilityMap": {},
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "groupBy": None,
        "hideEmptyCharts": True,
        "compareRunSections": _sections(view),
        "compareRunCharts": _charts(view),
    }


def _columns(view: SweepView) -> list[str]:
    finals = FINAL_METRICS if view.finalists else ()
    metrics = ["objective", *view.goals, *finals, *view.curves, *view.summaries, *view.flow]
    tags = ["state", *(["pareto"] if view.goals else []), "reason"]
    return [
        *(f"tags.`trial.{name}`" for name in tags),
        *(f"metrics.`{name}`" for name in dict.fromkeys(metrics)),
        *(f"params.`{name}`" for name in view.params),
    ]


def _sections(view: SweepView) -> list[dict[str, Any]]:
    """Those that this sweep has charts for, in the order of the page."""
    sections = [_section(BEST, "Listed trials: parameters and result", columns=1, cardHeight=420)]
    if view.finalists:
        sections.append(_section(FINALS, "Finals: the test rows over fresh seeds", columns=4))
    if view.goals:
        sections.append(_section(GOALS, "Best 20 trials: one objective against another", columns=2))
    sections.append(_section(EFFECTS, "Best 20 trials: one parameter against the result"))
    sections.append(_section(CURVES, "Best 20 trials: learning curves"))
    return [*sections, _section(FLOW, "Best 20 trials: gradient flow")] if view.flow else sections


def _section(uuid: str, name: str, **layout: int) -> dict[str, Any]:
    flags = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "name": name, **flags, **layout}


def _charts(view: SweepView) -> list[dict[str, Any]]:
    charts = [_parallel(view.axes[:MAX_AXES], [*view.goals, view.metric])]  # the last one gives the colours
    if view.finalists:
        charts += [_bar(name) for name in FINAL_METRICS]
        charts.append(_scatter(FINALS, "objective", "METRIC", "final_mean"))
    charts += [_scatter(GOALS, name, "METRIC", view.metric) for name in view.goals]
    charts += [_scatter(EFFECTS, name, "PARAM", view.metric) for name in view.numeric]
    charts += [_line(CURVES, name) for name in view.curves]
    charts += [_line(FLOW, name, "log" if name == RATIO else "linear") for name in view.flow]
    # A metric without a chart would get one of its own below ours.
    charts += [_hidden(name) for name in dict.fromkeys(("objective", *view.goals, *view.summaries))]
    return charts


def _chart(kind: str, section: str, name: str, **fields: Any) -> dict[str, Any]:
    identity = {"type": kind, "uuid": f"{section}-{name}", "metricSectionId": section}
    return {**identity, "deleted": False, "isGenerated": False, **fields}


def _parallel(axes: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    chosen = {"selectedParams": list(axes), "selectedMetrics": list(metrics)}
    return _chart("PARALLEL", BEST, "parallel", **chosen, showAllRuns=True)


def _scatter(section: str, key: str, kind: str, metric: str) -> dict[str, Any]:
    x, y = {"key": key, "type": kind}, {"key": metric, "type": "METRIC"}
    return _chart("SCATTER", section, key, xaxis=x, yaxis=y, runsCountToCompare=100)


def _bar(metric: str) -> dict[str, Any]:
    return _chart("BAR", FINALS, metric, metricKey=metric, runsCountToCompare=20)


def _line(section: str, metric: str, scale: str = "linear") -> dict[str, Any]:
    axes: Mapping[str, Any] = {
        "xAxisKey": "step",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {"xMin": None, "xMax": None, "yMin": None, "yMax": None},
        "scaleType": scale,
        "xAxisScaleType": "linear",
        "lineSmoothness": 0,
        "useGlobalXaxisKey": True,
    }
    return _chart("LINE", section, metric, metricKey=metric, selectedMetricKeys=[metric], **axes)


def _hidden(metric: str) -> dict[str, Any]:
    return {**_chart("BAR", CURVES, metric, metricKey=metric), "deleted": True}
