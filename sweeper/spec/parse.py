"""The only parser of sweep files: a file, a mapping or command line options in, a SweepSpec or a SpecError out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sweeper.errors import SpecError, nearest
from sweeper.search_spaces import Problem, ReadError, Space, SpaceError, load_space, parse_yaml, read_file
from sweeper.search_spaces.errors import shown
from sweeper.spec.dataset import DATA_SUFFIXES, DATASETS, FILES, SUFFIXES_IN_WORDS, DatasetSpec, SplitSpec, is_there
from sweeper.spec.goals import METRICS, ObjectiveSpec, Task
from sweeper.spec.models import SweepSpec
from sweeper.spec.objective_file import names_function
from sweeper.spec.search import SearchSpec
from sweeper.spec.sections import FinalsSpec, PlateauSpec, TrackingSpec, TrainingSpec

__all__ = [
    "DATASETS",
    "METRICS",
    "DatasetSpec",
    "FinalsSpec",
    "ObjectiveSpec",
    "PlateauSpec",
    "SearchSpec",
    "SplitSpec",
    "SweepSpec",
    "Task",
    "TrackingSpec",
    "TrainingSpec",
    "load_spec",
    "spec_from_options",
]

_SPACE_FILE = re.compile(r"\.(ya?ml|json|py(:[^:]*)?)$", re.IGNORECASE)
_NULLABLE = ("clip_norm", "plateau", "gradient_flow", "timeout", "finals", "folds", "stop")
_SECTIONS = ("split", "inputs", "training", "objective", "search", "tracking")  # written but empty means: all defaults


def load_spec(
    source: str | os.PathLike[str] | Mapping[str, Any] | SweepSpec,
    overrides: Sequence[str] = (),
    *,
    trials: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    timeout: str | float | None = None,
) -> SweepSpec:
    """The spec of a sweep file (YAML or JSON), a mapping of the same shape, or a spec that is to be changed.

    ``overrides`` are texts ``section.key=value`` with a YAML value, applied last. Relative paths start at the sweep
    file's folder; those of a mapping or an override at the working directory.

    Raises:
        SpecError: with everything that is wrong: file, dotted key, value and the nearest valid name.
    """
    file: str | None = None
    if isinstance(source, SweepSpec):
        raw: Any = source.to_json()
    elif isinstance(source, Mapping):
        raw = source
    else:
        file, raw = _read(source)
    data = _plain(raw, file)
    options = {"search.trials": trials, "search.seed": seed, "name": name, "search.timeout": timeout}
    _absolute_paths(data, Path(file).parent if file else Path.cwd())
    for key, value in options.items():
        if value is not None:
            _assign(data, key, value)
    for override in overrides:
        key, value = _parse_override(override)
        _assign(data, key, value)
    _absolute_paths(data, Path.cwd())
    return _validate(data, file)


def spec_from_options(
    dataset: str,
    space: str | None = None,
    *,
    trials: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    timeout: str | float | None = None,
    sets: Sequence[str] = (),
) -> SweepSpec:
    """The spec of ``sweeper run --dataset D --space S``. ``dataset`` is a built-in name or the path of a data file.

    Without a ``space`` it is the usual one, of the MLP or of a model of the user's own.

    Raises:
        SpecError: as ``load_spec``.
    """
    is_path = dataset.lower().endswith(DATA_SUFFIXES) or "/" in dataset or os.path.exists(dataset)
    table = {"path" if is_path else "name": dataset}
    data = {"dataset": table, **({} if space is None else {"space": space})}
    return load_spec(data, sets, trials=trials, seed=seed, name=name, timeout=timeout)


def _read(source: str | os.PathLike[str]) -> tuple[str, Any]:
    if not isinstance(source, str | os.PathLike):
        raise SpecError(f"{shown(source)} is not a sweep file", remedy="Give a path or a mapping")
    file = os.fspath(source)
    if not os.path.isfile(file):
        raise SpecError("there is no such file", file=file, remedy=_beside(file, (".yaml", ".yml", ".json")))
    try:
        return file, read_file(file)
    except ReadError as error:
        raise SpecError(error.problem, file=file, remedy=error.remedy) from error


def _plain(raw: Any, file: str | None) -> dict[str, Any]:
    """A deep copy of the top two levels, so that overrides never change what the caller holds."""
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        problem = f"a sweep file is a mapping, not {shown(raw)}"
        raise SpecError(problem, file=file, remedy="Start with dataset: {name: digits}")
    for key in raw:
        if not isinstance(key, str):
            raise SpecError(f"the key {shown(key)} is not text", file=file)
    data = {key: _copied(value) for key, value in raw.items()}
    for section in _SECTIONS:
        if section in data and data[section] is None:
            data[section] = {}
    return data


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _absolute_paths(data: dict[str, Any], base: Path) -> None:
    """Make the data files and the space's file absolute, so that the spec means the same everywhere."""
    table = data.get("dataset")
    if isinstance(table, dict):
        for key in FILES:
            if isinstance(table.get(key), str | os.PathLike) and str(table[key]):
                table[key] = _absolute(table[key], base)
    for section, key in (("objective", "function"), ("search", "sampler")):
        inner = data.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(key), str) and ".py" in inner[key]:
            inner[key] = _absolute(inner[key], base)
    if isinstance(data.get("metrics"), list):
        data["metrics"] = [_absolute(m, base) if isinstance(m, str) and ".py" in m else m for m in data["metrics"]]
    if isinstance(data.get("model"), str) and ".py" in data["model"]:
        data["model"] = _absolute(data["model"], base)
    space = data.get("space")
    if isinstance(space, os.PathLike) or (isinstance(space, str) and _SPACE_FILE.search(space)):
        data["space"] = _absolute(space, base)


def _absolute(path: str | os.PathLike[str], base: Path) -> str:
    return os.path.abspath(os.path.join(base, os.path.expanduser(path)))


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = str(text).partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        remedy = "Write for example training.epochs=5"
        raise SpecError(f"{str(text)[:100]!r} is not key=value", key="--set", remedy=remedy)
    try:
        parsed = parse_yaml(value)
    except ReadError as error:
        if _is_text(key):
            return key, value.strip()
        raise SpecError(f"{value[:60]!r}: {error.problem}", key=key, remedy=error.remedy) from error
    if _is_text(key) and not isinstance(parsed, str) and value.strip() not in ("", "null", "~"):
        return key, value.strip()
    return key, parsed


def _is_text(key: str) -> bool:
    """Whether the key takes text only, a column's name say: ``[y]`` is no list then, and ``1.5`` no number."""
    *sections, last = key.split(".")
    model = _section(sections)
    field = model.model_fields.get(last)
    if field is None:
        return False
    kinds = {get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in get_args(field.annotation)}
    return (kinds or {field.annotation}) <= {str, type(None)}


def _assign(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, making sections on the way."""
    *sections, last = key.split(".")
    here = data
    for i, section in enumerate(sections):
        if here.get(section) is None:
            here[section] = {}
        inner = here[section]
        if not isinstance(inner, dict):
            path = ".".join(sections[: i + 1])
            problem = f"{path} is {shown(inner)}, which has no {last!r} to set"
            raise SpecError(problem, key=key, remedy=f"Set {path} itself")
        here = inner
    here[last] = value


def _validate(data: dict[str, Any], file: str | None) -> SweepSpec:
    problems: list[Problem] = []
    own = names_function(data)
    usual = "mlp" if data.get("model") is None else "own_model"
    space = None if own else _space(data.get("space", usual), file, problems)
    grid_trials = _grid_trials(data, space, problems)
    if grid_trials is not None:
        _assign(data, "search.trials", grid_trials)
    try:
        spec = SweepSpec.model_validate(data if own else {**data, "space": space or Space("refused")})
    except ValidationError as error:
        problems += _translated(error, data)
    except (OverflowError, RecursionError, UnicodeError) as error:
        problems.append(Problem(None, f"it holds a value that cannot be read ({error})", None))
    else:
        problems += [] if own else _beyond_types(spec)
    if problems:
        raise _spec_error(problems, file)
    return spec


def _space(source: Any, file: str | None, problems: list[Problem]) -> Space | None:
    try:
        space = load_space(source)
        space.check()
    except SpaceError as error:
        for problem in error.problems:
            place = f"{problem.key}: " if problem.key and error.file else ""
            where = f"{os.path.basename(error.file)}: {place}" if error.file else ""
            key = "space" if error.file or not problem.key else f"space.{problem.key}"
            problems.append(Problem(key, where + problem.problem, problem.remedy))
        return None
    return space


def _grid_trials(data: Mapping[str, Any], space: Space | None, problems: list[Problem]) -> int | None:
    """The number of trials of a grid search that does not say: the whole grid."""
    search = data.get("search")
    if space is None or not isinstance(search, dict) or search.get("sampler") != "grid":
        return None
    try:
        points = len(space.grid())
    except SpaceError as error:
        key = f"space.{error.key}" if error.key else "search.sampler"
        problems.append(Problem(key, error.problem, error.remedy))
        return None
    trials = search.get("trials", points)
    if isinstance(trials, int) and trials > points:
        remedy = f"Set it to {points} or less, or leave it out for the whole grid"
        problems.append(Problem("search.trials", f"{trials} is more than the {points} points of the grid", remedy))
    return points if "trials" not in search else None


def _beyond_types(spec: SweepSpec) -> Iterator[Problem]:
    """What only the file system and the sections together can tell."""
    for key, path in spec.dataset.files().items():
        if os.path.isfile(path) and not is_there(path):
            problem = f"{os.path.basename(path)!r} is not a data file"
            yield Problem(f"dataset.{key}", problem, f"Its name must end in {SUFFIXES_IN_WORDS}")
        elif not is_there(path):
            yield Problem(f"dataset.{key}", f"there is no file {path!r}", _beside(path, DATA_SUFFIXES))
    try:
        spec.space.points(spec.search.enqueue or (), "search.enqueue")
    except SpaceError as error:
        yield from error.problems
    for i, point in enumerate(spec.search.warm.points if spec.search.warm is not None else ()):
        if not spec.space.holds(point.params):
            remedy = "Remove search.warm: it is taken again from the sweep that search.from names"
            yield Problem(f"search.warm.points.{i}", "it is not a point of this space", remedy)
            break
    task = spec.dataset.known_task
    if task is not None:
        try:
            spec.check_task(task)
        except SpecError as error:
            yield Problem(error.key, error.problem, error.remedy)


def _beside(path: str, suffixes: tuple[str, ...]) -> str:
    """A remedy naming the file that was probably meant."""
    folder = os.path.dirname(path) or "."
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(suffixes))
    except (OSError, ValueError):
        return f"There is no folder {folder[-200:]!r}"
    if not names:
        return f"The folder {folder[-200:]!r} holds no file that ends in {', '.join(suffixes)}"
    return nearest(os.path.basename(path), names[:50])


def _translated(error: ValidationError, data: Mapping[str, Any]) -> Iterator[Problem]:
    """Pydantic's findings in the words of this project."""
    for found in error.errors(include_url=False):
        if found["type"] == "default_factory_not_called":  # a default that follows from a value that is refused itself
            continue
        location = [str(part) for part in found["loc"]]
        context = found.get("ctx", {})
        key = ".".join(location)
        if found["type"] == "refused":
            key = ".".join(part for part in (key, context["key"]) if part)
            yield Problem(key, context["problem"], context["remedy"])
        elif found["type"] == "extra_forbidden":
            yield Problem(key[:100], "unknown key", nearest(location[-1][:100], _keys(location[:-1])))
        elif found["type"] == "missing":
            remedy = "Write for example dataset: {name: digits}" if key == "dataset" else None
            yield Problem(key, "it is missing", remedy)
        elif found["type"] == "literal_error":
            words = re.findall(r"'([^']*)'", context.get("expected", ""))
            value = found["input"]
            yield Problem(key, f"{shown(value)} is not valid", nearest(str(value)[:100], words))
        else:
            yield Problem(key, *_plain_words(found))


def _plain_words(found: Mapping[str, Any]) -> tuple[str, str | None]:
    value, kind = found["input"], found["type"]
    if kind in ("model_type", "model_attributes_type"):
        example = "dataset: {name: digits}" if found["loc"][-1:] == ("dataset",) else None
        return f"{shown(value)} is not a section", f"Write {example}" if example else "Write keys and values below it"
    message = found["msg"].removeprefix("Input ").replace("should be", "it must be", 1).replace("tuple", "list")
    nullable = found["loc"][-1:] and found["loc"][-1] in (
        "clip_norm",
        "plateau",
        "gradient_flow",
        "timeout",
        "finals",
        "folds",
    )
    return f"{shown(value)} is not valid: {message}", "null turns it off" if nullable else None


def _section(location: Sequence[str]) -> type[BaseModel]:
    """The model of the section at a location, or of the last one on the way there."""
    model: type[BaseModel] = SweepSpec
    for part in location:
        field = model.model_fields.get(part)
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            break
        model = inner[0]
    return model


def _keys(location: Sequence[str]) -> list[str]:
    """The keys that the section at a location has."""
    model = _section(location)
    return [field.alias or name for name, field in model.model_fields.items()]


def _spec_error(problems: Sequence[Problem], file: str | None) -> SpecError:
    if len(problems) == 1:
        key, problem, remedy = problems[0]
        return SpecError(problem, file=file, key=key, remedy=remedy)
    lines = [str(SpecError(p.problem, key=p.key, remedy=p.remedy)) for p in problems]
    return SpecError("\n  ".join([f"{len(problems)} problems", *lines]), file=file)
