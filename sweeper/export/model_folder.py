"""The winner as a folder that does not need this project: weights, preprocessing, a model card and two scripts."""

from __future__ import annotations

import inspect
import io
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sweeper.data.folds import joined
from sweeper.export.onnx import is_available, metadata, onnx_model
from sweeper.export.own_model import OwnFiles, own_files, own_source, own_training
from sweeper.export.retraining import Winner, changes_in_script, objective_of
from sweeper.export.templates import render
from sweeper.models.own_config import OwnConfig
from sweeper.records import SweepRecord
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import Phase, phases_in_words, schedule_in
from sweeper.text import listed, shown

if TYPE_CHECKING:
    import numpy as np

    from sweeper.data.dataset import Dataset
    from sweeper.models import TrainConfig, TrialConfig
    from sweeper.models.embedding import EmbeddingLayout
    from sweeper.training.averaging import TrialModel

PACKAGES = ("sweeper", "torch", "numpy", "safetensors")
NORMALIZATIONS = {"layer": "nn.LayerNorm", "batch": "nn.BatchNorm1d"}
INITIALIZATIONS = {  # as models.init draws them
    "normal": "nn.init.normal_(linear.weight, std=0.01, generator=generator)",
    "xavier_uniform": "nn.init.xavier_uniform_(linear.weight, generator=generator)",
    "xavier_normal": "nn.init.xavier_normal_(linear.weight, generator=generator)",
    "he_uniform": 'nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=generator)',
    "he_normal": 'nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)',
    "zeros": "nn.init.zeros_(linear.weight)",
}


def model_files(record: SweepRecord, spec: SweepSpec, dataset: Dataset, winner: Winner) -> dict[str, bytes]:
    """The folder's files by name; the members of an ensemble cannot be trained again from it."""
    import numpy as np
    from safetensors.numpy import save

    model, own = winner.model, own_files(winner.model)
    texts = {
        "preprocessing.json": json.dumps(_preprocessing(model.dataset), indent=1, ensure_ascii=False) + "\n",
        "numerals.py": files("sweeper.data").joinpath("numerals.py").read_text(encoding="utf-8"),
        "predict.py": render("model_predict.py.j2", _predicting(model)),
        "model_card.md": render("model_card.md.j2", _card(record, spec, dataset, winner, own)),
    }
    if not winner.members:
        texts["retrain.py"] = render("model_retrain.py.j2", _script(spec, dataset, winner))
    written = {name: text.encode() for name, text in texts.items()}
    written["weights.safetensors"] = save(model.named_weights())
    if is_available() and not own.files:
        about = metadata(dataset, record.sweep, winner.trial.number)
        written["model.onnx"] = onnx_model(model, about)
    if not winner.members:
        arrays = io.BytesIO()
        np.savez(arrays, **_arrays(spec, dataset))  # type: ignore[arg-type]
        written["data.npz"] = arrays.getvalue()
    return written | dict(own.files)


def _arrays(spec: SweepSpec, dataset: Dataset) -> dict[str, np.ndarray]:
    """The rows that retrain.py trains on, validates with and tests on; of several folds under their names."""
    from sweeper.training.again import arrays_to_refit

    test = {"y_test": dataset.y_test, **({} if dataset.w_test is None else {"w_test": dataset.w_test})}
    if _is_refitted(spec, dataset):
        return {**_rows(arrays_to_refit(dataset)), "x_test": dataset.x_test, **test}
    if dataset.folds:
        return joined([{**_rows(fold.arrays()), "x_test": fold.x_test} for fold in dataset.folds]) | test
    return {**_rows(dataset.arrays()), "x_test": dataset.x_test, **test}


def _rows(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with one entry per row: what the inputs are, retrain.py knows."""
    return {name: array for name, array in arrays.items() if name != "columns"}


def _is_refitted(spec: SweepSpec, dataset: Dataset) -> bool:
    return bool(dataset.folds) and spec.winner == "refit"


def _preprocessing(dataset: Dataset) -> dict[str, Any]:
    """The rules as plain data; ``inputs`` are the network's, in order."""
    from sweeper.data.numerals import MISSING
    from sweeper.data.recipe import MISSING_TEXT

    recipe = dataset.recipe.to_json()
    return {
        "version": recipe["version"],
        "task": dataset.task,
        "columns": [{"name": c.name, "dtype": c.dtype, "used": c.used} for c in dataset.raw_columns],
        "inputs": recipe["features"],
        "written": recipe["written"],
        "categories": dataset.recipe.categories(),
        "missing_texts": list(MISSING),
        "missing_category": MISSING_TEXT,
        "classes": None if dataset.class_labels is None else list(dataset.class_labels),
        "target": {"name": dataset.target_name, "mean": dataset.target_mean, "std": dataset.target_std},
    }


def _predicting(model: TrialModel) -> dict[str, Any]:
    """What predict.py is filled with, as Python source."""
    from sweeper.data.recipe import NORMAL_BOUND

    embeds = any(part.layout is not None for part in model.parts)
    found = {"networks": _networks(model), "normal_bound": repr(NORMAL_BOUND), "own": own_source(model)}
    return found | {"embedding": _embedding_layer(embeds)}


def _script(spec: SweepSpec, dataset: Dataset, winner: Winner) -> dict[str, Any]:
    """What retrain.py is filled with, as Python source."""
    from sweeper.models import lion
    from sweeper.models.solo import resolve_clip_norm
    from sweeper.training.again import epochs_to_refit

    train, refit, params = winner.train, _is_refitted(spec, dataset), winner.trial.params or {}
    config, changes = spec.configs_of(schedule_in(winner.trial.attributes) or (Phase(0, params),))
    epochs = [history.kept_epoch(train) + 1 for history in winner.histories]
    batch_size = train.batch_size if config.batch_size is None else config.batch_size
    layout = winner.model.parts[0].layout
    longest = epochs_to_refit(winner.trial) if refit else max(epochs)
    changing = changes_in_script(config, changes, train, longest)
    phases = [config, *(after for _, after in changes)]
    return {
        "own": own_training(winner.model),
        "changes": changing,
        "seed": winner.trial.seed,
        "epochs": epochs_to_refit(winner.trial) if refit else epochs if dataset.folds else epochs[0],
        "batch_size": None if batch_size == "full" else batch_size,
        "folds": 0 if refit else len(dataset.folds),
        "refit": refit,
        "watched": "train_loss" if refit else "val_loss",
        "widths": [layout.width if layout else dataset.n_inputs, *config.hidden_layers, dataset.n_outputs],
        "embedding": _embedding_layer(layout is not None),
        "layout": _layout(layout),
        "frequency_scale": config.frequency_scale,
        "initialization": INITIALIZATIONS[config.initialization],
        "activation": _activation(config),
        "optimizer": _optimizer(config),
        "lion": inspect.getsource(lion.Lion).rstrip() if config.optimizer == "lion" else "",
        "schedule": _schedule(config, train, epochs_to_refit(winner.trial) if refit else train.epochs),
        "label_smoothing": config.label_smoothing,
        "smoothed": max(phase.label_smoothing for phase in phases) > 0,
        "normalization": NORMALIZATIONS.get(config.normalized),
        "batch_norm": config.normalized == "batch",
        "counted": ' if "num_batches" not in name' if config.normalized == "batch" else "",
        "residual": config.residual,
        "ntk": config.parametrization == "ntk",
        "ema_decay": config.ema_decay,
        "kept": "average.module" if config.ema_decay else "model",
        "dropout": _dropout(config, max(phase.dropout for phase in phases)),
        "classifies": dataset.task == "classification",
        "clip_norm": resolve_clip_norm(config, train),
        "val_loss": f"{winner.validation['val_loss']:.9g}",
        "test_loss": f"{winner.test['test_loss']:.9g}",
    }


def _networks(model: TrialModel) -> list[dict[str, str]]:
    """What predict.py is told of each network, as Python source."""
    return [
        {
            "prefix": repr("" if model.single else f"network{i}."),
            "own": repr(dict(part.config.own)) if isinstance(part.config, OwnConfig) else "",
            "activation": _activation(part.config),
            "residual": repr(part.config.residual),
            "ntk": repr(part.config.parametrization == "ntk"),
            "start": str(part.start),
            "stop": str(part.stop),
            "share": repr(part.share),
            "layout": _layout(part.layout),
        }
        for i, part in enumerate(model.parts)
    ]


def _embedding_layer(embeds: bool) -> str | None:
    """The layer that embeds inputs as Python source; None: there is none."""
    from sweeper.models.embeddings import EmbeddingLayer

    return inspect.getsource(EmbeddingLayer).rstrip() if embeds else None


def _layout(layout: EmbeddingLayout | None) -> str:
    """How inputs are embedded as Python source, with what ``EmbeddingLayer`` reads of it."""
    if layout is None:
        return "None"
    names = ("kind", "numbers", "passed", "categories", "shapes")
    return f"SimpleNamespace({', '.join(f'{name}={getattr(layout, name)!r}' for name in names)})"


def _activation(config: TrialConfig) -> str:
    """The module as Python source: ``nn.LeakyReLU(negative_slope=0.01)``."""
    from sweeper.models.mlp import ACTIVATION_MODULES

    return f"nn.{ACTIVATION_MODULES[config.activation]()!r}"


def _dropout(config: TrialConfig, most: float) -> dict[str, Any] | None:
    """Rate and random numbers of dropout as Python source; None: there is none. ``most``: its largest rate."""
    from sweeper.models import dropout

    if most == 0.0 or not config.hidden_layers:
        return None
    sources = [inspect.getsource(function).rstrip() for function in (dropout.philox, dropout.words)]
    constants = (dropout.MULTIPLIERS, dropout.WEYL, dropout.ROUNDS, dropout.LOW)
    return {"rate": config.dropout, "constants": ", ".join(map(repr, constants)), "functions": "\n\n\n".join(sources)}


def _schedule(config: TrialConfig, train: TrainConfig, epochs: int) -> dict[str, Any]:
    """How the learning rate changes between steps and between epochs as Python source; None: it does not."""
    from sweeper.models import schedules

    config, plateau = config.within(train), train.plateau
    kind, warmup = str(config.schedule), 0.0 if config.schedule in schedules.RISING else config.warmup_epochs or 0.0
    found: dict[str, Any] = {"plateau": None, "factor": None, "warmup": warmup}
    if kind == "plateau" and plateau is not None:
        found["plateau"] = (
            f"torch.optim.lr_scheduler.ReduceLROnPlateau(\n        optimizer, factor={plateau.factor!r}, "
            f"patience={plateau.patience}, threshold={plateau.threshold!r}, cooldown={plateau.cooldown}, "
            f"min_lr={plateau.min_lr!r}\n    )"
        )
    if kind not in ("plateau", "constant") or warmup > 0:
        source = inspect.getsource(schedules.factor).rstrip()
        found["factor"] = {"source": source, "kind": repr(kind), "epochs": epochs}
    return found


def _optimizer(config: TrialConfig) -> str:
    """The torch.optim optimizer of models.solo as Python source."""
    rate, decay = f"model.parameters(), lr={config.learning_rate!r}", f"weight_decay={config.weight_decay!r}"
    if config.optimizer == "sgd":
        return f"torch.optim.SGD({rate}, {decay})"
    if config.optimizer == "momentum":
        nesterov = config.nesterov and config.momentum > 0  # torch refuses nesterov with momentum 0
        return f"torch.optim.SGD({rate}, momentum={config.momentum!r}, nesterov={nesterov}, {decay})"
    if config.optimizer == "rmsprop":
        return f"torch.optim.RMSprop({rate}, alpha=0.99, eps=1e-8, {decay})"
    if config.optimizer == "lion":
        return f"Lion({rate}, betas=({config.beta1!r}, {config.beta2!r}), {decay})"
    if config.optimizer == "adagrad":
        return f"torch.optim.Adagrad({rate}, eps=1e-10, {decay})"
    name = {"adam": "Adam", "adamw": "AdamW", "nadam": "NAdam"}[config.optimizer]
    return f"torch.optim.{name}({rate}, betas=({config.beta1!r}, {config.beta2!r}), eps=1e-8, {decay})"


def _card(record: SweepRecord, spec: SweepSpec, dataset: Dataset, winner: Winner, own: OwnFiles) -> dict[str, Any]:
    """What the model card is filled with, as Markdown; ``own`` is a model of the user's own."""
    classifies = dataset.class_names is not None
    about = {
        "title": _cell(f"Winner of {record.name}"),
        "task": dataset.task,
        "target": _cell(dataset.target_name),
        "complete": f"{record.counts.get('complete', 0):,}",
        "requested": f"{record.requested:,}",
        "sweep": record.sweep,
        "trial": winner.trial.number,
        "members": {number: f"{share:.1%}" for number, share in winner.members.items()},
        "n_parameters": f"{winner.model.parameters:,}",
        "onnx": is_available() and not own.files,
        "own": sorted(own.files),
        "without": {name: _cell(reason) for name, reason in own.without.items()},
        "data": _cell(dataset.describe()),
        "fingerprint": dataset.fingerprint,
        "rules": [_cell(rule) for rule in _split_rules(spec)],
        "n_train": f"{dataset.n_train:,}",
        "n_val": f"{len(dataset.y_val):,}",
        "folds": len(dataset.folds),
        "refit": spec.winner == "refit",
        "n_test": f"{len(dataset.y_test):,}",
        "inputs": winner.inputs,
        "classes": _cell(listed(dataset.class_names or ())),
        "target_mean": f"{dataset.target_mean:.6g}",
        "target_std": f"{dataset.target_std:.6g}",
        "results": _results(winner),
        "calibration": "" if winner.calibration is None else winner.calibration.sentence,
        "metric": spec.objective.metric,
        "units": "" if classifies else "Losses are of the standardised target, rmse is in the target's unit.",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    return about if winner.members else about | _training(spec, dataset, winner)


def _training(spec: SweepSpec, dataset: Dataset, winner: Winner) -> dict[str, Any]:
    """What the card says of how one trial was trained."""
    from sweeper.models.solo import resolve_batch_size

    trial, script, replicates = winner.trial, _script(spec, dataset, winner), spec.training.replicates
    return {
        "configuration": {name: _cell(_value(value)) for name, value in (trial.params or {}).items()},
        "phases": [_cell(phase) for phase in phases_in_words(schedule_in(trial.attributes))],
        "seed": script["seed"],
        "epochs": ", ".join(map(str, script["epochs"])) if script["folds"] else script["epochs"],
        "batch_size": resolve_batch_size(winner.config, winner.train, dataset.n_train),
        "clipping": "no gradient clipping" if script["clip_norm"] is None else f"clipped to {script['clip_norm']:g}",
        "plateau": _rates(winner.config, winner.train),
        "kept": _which_epoch(winner),
        "replicates": "" if replicates == 1 else _replicated(replicates),
        "direction": spec.objective.direction,
        "recorded": "unknown" if trial.value is None else f"{trial.value:.6g}",
        "again": f"{objective_of(spec, dataset, trial, winner.histories):.6g}",
    }


def _split_rules(spec: SweepSpec) -> list[str]:
    """How the rows were parted, in sentences."""
    split, files = spec.split, spec.dataset.files()
    rules = []
    if split.group is not None:
        rules.append(f"No group of {split.group} has rows in two splits.")
    if split.time is not None:
        rules.append(f"In the order of {split.time}: training before validation before test.")
    if split.column is not None:
        rules.append(f"As the column {split.column} says.")
    drawn = [
        f"{share:g} of all for {name}"
        for name, share in (("validation", split.validation), ("test", split.test))
        if name not in files and not (name == "validation" and split.folds)
    ]
    if drawn and split.column is None:
        rules.append(f"{', '.join(drawn)}, drawn with seed {split.seed}.")
    return rules


def _results(winner: Winner) -> dict[str, tuple[str, str]]:
    """Metric -> (validation, test)."""
    names = [name.removeprefix("val_") for name in winner.validation]
    return {name: (f"{winner.validation[f'val_{name}']:.6g}", f"{winner.test[f'test_{name}']:.6g}") for name in names}


def _rates(config: TrialConfig, train: TrainConfig) -> str:
    """How the learning rate changed, in words."""
    config, p = config.within(train), train.plateau
    rising = f"after {config.warmup_epochs:g} epochs of warm-up " if config.warmup_epochs else ""
    if config.schedule not in ("plateau", "constant"):
        return f"{rising}the learning rate follows the schedule {config.schedule}"
    if config.schedule == "constant" or p is None:
        return f"{rising}the learning rate stays the same"
    return (
        f"{rising}the learning rate times {p.factor:g} after {p.patience} epochs without progress, down to {p.min_lr:g}"
    )


def _which_epoch(winner: Winner) -> str:
    train = winner.train
    if all(history.kept_epoch(train) == history.epochs - 1 for history in winner.histories):
        return "The weights are those after the last epoch."
    if len(winner.histories) > 1:
        return f"Each fold's weights are those of its best epoch by {train.monitor}."
    trained = winner.histories[0].epochs
    return f"The sweep trained {trained} epochs and kept the weights of the best one by {train.monitor}."


def _replicated(replicates: int) -> str:
    return f"The sweep's value is the mean of {replicates} seeds; these weights are those of the first of them."


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """A text that breaks neither a table nor a code span."""
    return shown(text, 500).replace("|", "\\|").replace("`", "'")
