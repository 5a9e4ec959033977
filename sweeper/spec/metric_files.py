"""Reads the user's own metrics that a sweep file names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer

from sweeper.models.metric_names import OF_TASK
from sweeper.search_spaces import SpaceError
from sweeper.search_spaces.function import FunctionSource
from sweeper.spec.own_metrics import OwnMetric
from sweeper.spec.section import refuse

REFERENCE = re.compile(r"(?P<file>.+\.py):(?P<function>[^:/\\]+)", re.DOTALL)
MAX_TEXT = 1_000_000  # characters of a file
_BUILT_IN = {name for names in OF_TASK.values() for name in names}


def read_metric(value: Any) -> OwnMetric:
    """The metric that a text ``my_metrics.py:cost`` names; the file is read, nothing is run."""
    if isinstance(value, OwnMetric):
        return value
    if isinstance(value, Mapping):
        return _stored(value)
    match = REFERENCE.fullmatch(value[:4096]) if isinstance(value, str) else None
    if match is None:
        remedy = "Write file.py:function for one of your own; metrics that exist need no entry here"
        refuse(f"{str(value)[:60]!r} is no function of a file", remedy=remedy)
    file, function = os.path.abspath(match["file"]), match["function"]
    try:
        FunctionSource.read(file, function)
        with open(file, encoding="utf-8", newline="") as stream:
            text = stream.read(MAX_TEXT + 1)
    except SpaceError as error:
        where = f"{os.path.basename(file)}: {error.key + ': ' if error.key else ''}"
        refuse(where + error.problem, remedy=error.remedy)
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{os.path.basename(file)} cannot be read ({error})"[:300])
    if function in _BUILT_IN:
        refuse(f"{function} is a metric that exists already", remedy="Give the function another name")
    return OwnMetric(file=file, function=function, text=text)


def read_metrics(value: Any) -> Any:
    """A list of metrics, each by another name."""
    if not isinstance(value, list | tuple):
        return value
    found = tuple(map(read_metric, value))
    names = [one.function for one in found]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        refuse(f"there are two functions {doubled!r}", remedy="Give one of them another name")
    return found


def _stored(value: Mapping[str, Any]) -> OwnMetric:
    """The metric as a stored spec has it."""
    if set(value) != {"file", "function", "text"} or not all(isinstance(text, str) for text in value.values()):
        refuse("it is no metric", remedy="Write file.py:function")
    return OwnMetric(**value)


Stored = Annotated[InstanceOf[OwnMetric], PlainSerializer(asdict)]
OwnMetrics = Annotated[tuple[Stored, ...], BeforeValidator(read_metrics), Field(max_length=20)]
