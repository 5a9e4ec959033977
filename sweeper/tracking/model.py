"""The winner as an MLflow model that predicts from raw rows, for ``mlflow.pytorch`` and ``mlflow.pyfunc`` alike."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sweeper.data import numerals
from sweeper.data.recipe import NORMAL_BOUND, NUMBER, CodedRule, knot_tables
from sweeper.tracking import pyfunc
from sweeper.tracking.store import Location, prepare_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature

    from sweeper.data.dataset import Dataset
    from sweeper.training.averaging import TrialModel

NAME = "model"
LOADER = "sweeper_winner"  # the name under which pyfunc.py is copied into the model
REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas")
EXAMPLE_ROWS = 3
STEPS = ("fill", "offset", "scale", "limit", "low", "high")
# torch.export keeps its state for the whole process, two at once never leave it again; so does ``_unchecked``
_exporting = threading.Lock()


class RawNetwork(nn.Module):
    """A trained network behind its preprocessing. F raw columns, D inputs, C classes, B rows.

    Raw rows ``(B, F)``, float32 once it is exported, texts as positions of their categories -> class probabilities
    ``(B, C)`` or predictions ``(B,)`` in the target's unit. NaN is a missing value. Preprocessing runs in float64.
    """

    columns: Tensor
    fill: Tensor
    offset: Tensor
    scale: Tensor
    limit: Tensor
    low: Tensor
    high: Tensor
    codes: Tensor

    def __init__(self, network: nn.Module, dataset: Dataset) -> None:
        super().__init__()
        self.network = network
        self.classifies = dataset.class_labels is not None
        self.target_mean, self.target_std = dataset.target_mean, dataset.target_std
        raw = [column.name for column in dataset.raw_columns]
        rules = dataset.recipe.coded
        self.register_buffer("columns", torch.tensor([raw.index(rule.column) for rule in rules]))
        self.register_buffer("codes", torch.tensor([rule.code for rule in rules], dtype=torch.float64))
        for name in STEPS:
            self.register_buffer(name, torch.tensor([getattr(rule, name) for rule in rules], dtype=torch.float64))
        self.ranked = NormalPlaces(rules) if any(rule.quantiles for rule in rules) else None

    def forward(self, rows: Tensor) -> Tensor:
        """``(B, F) -> (B, C)`` probabilities or ``(B,)`` predictions."""
        values = rows[:, self.columns].to(torch.float64)  # (B, D)
        values = torch.where(torch.isnan(values), self.fill, values)
        numbers = (values - self.offset) / self.scale
        numbers = numbers / torch.sqrt(1.0 + (numbers / self.limit) ** 2)
        numbers = torch.minimum(torch.maximum(numbers, self.low), self.high)
        if self.ranked is not None:
            numbers = self.ranked(values, numbers)
        inputs = torch.where(self.codes == NUMBER, numbers, (values == self.codes).to(torch.float64))
        made = self.network(inputs.to(torch.float32))
        if self.classifies:
            return torch.softmax(made, dim=1)
        return made[:, 0] * self.target_std + self.target_mean


class NormalPlaces(nn.Module):
    """The inputs that are places among quantiles, as ``sweeper.data.recipe.normal_places`` has them. Q such inputs."""

    positions: Tensor
    knots: Tensor
    begins: Tensor
    ends: Tensor

    def __init__(self, rules: Sequence[CodedRule]) -> None:
        super().__init__()
        self.register_buffer("positions", torch.tensor([i for i, rule in enumerate(rules) if rule.quantiles]))
        tables = knot_tables([rule.quantiles for rule in rules if rule.quantiles])
        for name, table in zip(("knots", "begins", "ends"), tables, strict=True):
            self.register_buffer(name, torch.tensor(table))  # (Q, K)

    def forward(self, values: Tensor, numbers: Tensor) -> Tensor:
        """``numbers (B, D)`` with those inputs replaced, made of the filled ``values (B, D)``."""
        x = values[:, self.positions].T.contiguous()  # (Q, B)
        after = torch.searchsorted(self.knots, x, right=True).clamp(max=self.knots.shape[1] - 1)
        before = (after - 1).clamp(min=0)
        low, high = self.knots.gather(1, before), self.knots.gather(1, after)
        start, end = self.ends.gather(1, before), self.begins.gather(1, after)
        inside = torch.where(high > low, (x - low) / torch.where(high > low, high - low, 1.0), 0.0)
        place = torch.where(x < self.knots[:, :1], 0.0, start + inside * (end - start))
        for knot, at in ((low, before), (high, after)):  # rows come in float32: equal there is equal
            middle = (self.begins.gather(1, at) + self.ends.gather(1, at)) / 2
            place = torch.where(x.float() == knot.float(), middle, place)
        made = torch.special.ndtri(place).clamp(-NORMAL_BOUND, NORMAL_BOUND)
        return numbers.index_copy(1, self.positions, made.T)


@cache
def warm_up() -> None:
    """Save a model and throw it away: what the first one of a process imports takes three seconds of CPU."""
    prepare_environment()
    with tempfile.TemporaryDirectory() as scratch:
        _save_network(nn.Identity(), Path(scratch, NAME), columns=1)


def raw_network(model: TrialModel) -> RawNetwork:
    """The winner's network with its weights and preprocessing."""
    return RawNetwork(model.network(), model.dataset).eval()


def why_left_out(winner: TrialModel) -> str | None:
    """Why MLflow cannot have the winner, in torch's words; None: it can. Every MLP can be traced, a module of the
    user's own may branch on its numbers."""
    from sweeper.models.own_config import OwnConfig

    if not any(isinstance(part.config, OwnConfig) for part in winner.parts):
        return None
    rows = torch.zeros(EXAMPLE_ROWS, winner.parts[-1].stop)
    try:
        with _exporting, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.export(winner.network(), (rows,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    except Exception as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None


def save_model(folder: Path, winner: TrialModel, **identity: Any) -> Model:
    """Save the winner in MLflow's format to a new ``folder``: nothing is pickled, nothing of ours is needed to load it.

    ``identity`` goes to ``mlflow.models.Model``.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    network, dataset = raw_network(winner), winner.dataset
    frame = dataset.raw_train.head(EXAMPLE_ROWS)
    columns = [column.name for column in dataset.raw_columns]
    outputs = [dataset.target_name] if dataset.class_names is None else list(dataset.class_names)
    known = dataset.recipe.categories()
    table = {"columns": columns, "categories": known, "missing": list(numerals.MISSING), "outputs": outputs}
    table["written"] = dataset.recipe.to_json()["written"]
    table["required"] = [column.name for column in dataset.raw_columns if column.used]
    with tempfile.TemporaryDirectory() as scratch:
        traced, loader, reader = (Path(scratch, name) for name in ("traced", f"{LOADER}.py", f"{pyfunc.NUMERALS}.py"))
        _save_network(network, traced, len(columns))
        flavor = Model.load(str(traced)).flavors["pytorch"]
        data = traced / str(flavor["model_data"])
        (data / pyfunc.TABLE_FILE).write_text(json.dumps(table), encoding="utf-8")
        shutil.copyfile(pyfunc.__file__, loader)
        shutil.copyfile(numerals.__file__, reader)
        model = Model(**identity, metadata={"columns": {c.name: c.dtype for c in dataset.raw_columns if c.used}})
        # the pyfunc flavor puts a data folder into one called data
        model.add_flavor("pytorch", **{**flavor, "code": None, "model_data": f"data/{data.name}"})
        with _exporting, _unchecked():
            mlflow.pyfunc.save_model(
                path=str(folder),
                loader_module=LOADER,
                data_path=str(data),
                code_paths=[str(loader), str(reader)],
                mlflow_model=model,
                signature=_signature(outputs),
                input_example=frame,
                pip_requirements=_requirements(),
            )
    return model


def _save_network(network: nn.Module, folder: Path, columns: int) -> None:
    import mlflow.pytorch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    rows = torch.zeros(EXAMPLE_ROWS, columns)
    signature = ModelSignature(Schema([TensorSpec(rows.numpy().dtype, (-1, columns))]))
    with _exporting, _unchecked():
        mlflow.pytorch.save_model(
            network, str(folder), signature=signature, input_example=rows, pip_requirements=_requirements()
        )


def log_model(
    client: MlflowClient,
    place: Location,
    winner: TrialModel,
    tags: Mapping[str, str],
) -> tuple[str, str]:
    """Log the winner as a model of the sweep's parent run: its id, and the place of its files."""
    from mlflow.entities import LoggedModelOutput

    params = client.get_run(place.parent).data.params
    registered = {version.model_id for version in client.search_model_versions(f"run_id = '{place.parent}'")}
    earlier = client.search_logged_models([place.experiment], f"source_run_id = '{place.parent}'")
    for model in earlier:  # of an earlier winner, or left by a call that failed half-way
        if model.model_id not in registered:
            client.delete_logged_model(model.model_id)
    made = client.create_logged_model(place.experiment, NAME, place.parent, dict(tags), params, "mlp")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, NAME)
        identity = {"artifact_path": made.artifact_location, "run_id": place.parent, "model_id": made.model_id}
        save_model(folder, winner, **identity)
        client.log_model_artifacts(made.model_id, str(folder))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(place.parent, [LoggedModelOutput(made.model_id, step=0)])
    return made.model_id, made.artifact_location


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """MLflow does not compare the requirements with what is installed: they name just that.

    It would look at every file of every installed package, which takes 0.4 s of CPU. One thread at a time.
    """
    from mlflow.utils import environment

    module: Any = environment
    usual = module.warn_dependency_requirement_mismatches
    module.warn_dependency_requirement_mismatches = lambda requirements: None
    try:
        yield
    finally:
        module.warn_dependency_requirement_mismatches = usual


def _requirements() -> list[str]:
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def _signature(outputs: list[str]) -> ModelSignature:
    """What comes out. What goes in is left open, and checked by the model itself.

    With types MLflow would refuse whole numbers where training had fractions; with columns of any type, rows as CSV.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    made: list[ColSpec | TensorSpec] = [ColSpec(DataType.double, name) for name in outputs]
    return ModelSignature(outputs=Schema(made))
