"""Reads the user's own metrics that a sweep file names."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer

from sweeper.models.metric_names import OF_TASK
from sweeper.spec.own_metrics import OwnMetric
from sweeper.spec.section import refuse
from sweeper.spec.user_files import read_function, stored_function

REMEDY = "Write file.py:function for one of your own; metrics that exist need no entry here"
_BUILT_IN = {name for names in OF_TASK.values() for name in names}


def read_metric(value: Any) -> OwnMetric:
    """The metric that a text ``my_metrics.py:cost`` names; the file is read, nothing is run."""
    if isinstance(value, OwnMetric):
        return value
    found = read_function(value, REMEDY)
    if found.function in _BUILT_IN:
        refuse(f"{found.function} is a metric that exists already", remedy="Give the function another name")
    return OwnMetric(**asdict(found))


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


Stored = Annotated[InstanceOf[OwnMetric], PlainSerializer(stored_function)]
OwnMetrics = Annotated[tuple[Stored, ...], BeforeValidator(read_metrics), Field(max_length=20)]
