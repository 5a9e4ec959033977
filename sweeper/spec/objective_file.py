"""An objective of the user's own in a sweep file: a Python function on an Optuna trial instead of data and a space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from sweeper.errors import SpecError
from sweeper.search_spaces import Space
from sweeper.search_spaces.function import FunctionSource
from sweeper.spec.dataset import NO_DATA
from sweeper.spec.section import Section, refuse
from sweeper.spec.user_code import UserFunction
from sweeper.spec.user_files import read_function

SECTIONS = ("name", "objective", "search", "resources", "tracking", "notify")  # all that its sweep file may have
SAMPLERS = ("tpe", "random", "sobol", "gp", "own")
PRUNERS = ("none", "median", "percentile", "asha", "hyperband", "plateau")


class ResourcesSpec(Section):
    """What each trial of an objective of the user's own takes of its worker: cores, and a share of a GPU."""

    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=1)] = 0.0

    def at_once(self, cores: int, gpu: bool) -> int:
        """How many trials run at once on a worker with so many cores, and with a GPU or without."""
        room = cores / self.cpus
        if self.gpus and gpu:
            room = min(room, 1 / self.gpus)
        return max(1, int(room + 1e-9))


def names_function(data: Any) -> bool:
    """Whether a sweep file's content is about an objective of the user's own."""
    objective = data.get("objective") if isinstance(data, Mapping) else None
    return isinstance(objective, Mapping) and objective.get("function") is not None


def completed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of such a sweep file with what stands for the data and the space that it does not have."""
    for key in data:
        if key not in SECTIONS and data[key] not in (None, ()):
            if key in ("dataset", "space"):
                refuse("an objective of your own brings its own data and space", key, "Remove it")
            if key in ("split", "normalize", "inputs", "training", "metrics", "finals", "winner", "model"):
                refuse("it is about the networks of the product, and this sweep has an objective", key, "Remove it")
            if key in ("objectives", "constraints"):
                refuse("an objective of your own is the only one", key, "Remove it")
    function = read_function(data["objective"]["function"])
    source = FunctionSource(function.file, function.function, function.sha256)
    rest = {key: value for key, value in data.items() if key in SECTIONS or value not in (None, ())}
    objective = {**data["objective"], "function": function}
    return {**rest, "objective": objective, "dataset": NO_DATA, "space": Space(function.function, function=source)}


def check_objective(objective: Any, search: Any) -> None:
    """Refuse what cannot be searched with an objective of the user's own, as a validation error."""
    if search.sampler not in SAMPLERS:
        remedy = f"Use one of {', '.join(SAMPLERS[:-1])}, or my_sampler.py:make"
        refuse(f"{search.sampler} has to know the space beforehand", "search.sampler", remedy)
    if search.pruner not in PRUNERS:
        refuse(f"{search.pruner} does not judge a function", "search.pruner", f"Use one of {', '.join(PRUNERS)}")
    if search.pruner == "hyperband" and objective.reports is None:
        remedy = "Say how many times a whole trial calls trial.report, such as reports: 20"
        refuse("hyperband has to know how long trials are", "objective.reports", remedy)
    if search.from_ is not None:
        refuse("an objective of your own does not learn from an earlier sweep", "search.from", "Remove it")


def check_function(function: UserFunction, key: str, *names: str) -> None:
    """Refuse a function whose file cannot be imported, or that takes other arguments; its file is run.

    Raises:
        SpecError: with the file and, where it is known, the line.
    """
    try:
        function.check_arguments(*names)
    except SpecError as error:
        raise SpecError(error.problem, file=error.file, key=key, remedy=error.remedy) from error
