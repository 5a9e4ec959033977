"""What the folder of a winner holds of a model of the user's own: its code, and where torch can the network itself."""

from __future__ import annotations

import base64
import inspect
import io
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.export.templates import render
from sweeper.models.own_config import ModelData, OwnConfig

if TYPE_CHECKING:
    from sweeper.training.averaging import TrialModel

CODE, PICKLED, NETWORK, SCRIPT, ONNX = (
    *("own_model.py", "own_model.pickle"),
    *("network.pt2", "network.pt", "network.onnx"),
)


@dataclass(frozen=True)
class OwnFiles:
    """The files by name, and in ``without`` those that torch could not write, with the reason."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)


def own_files(model: TrialModel) -> OwnFiles:
    """What the folder holds of a model of the user's own; nothing of an MLP."""
    config = model.parts[0].config
    if not isinstance(config, OwnConfig) or config.builder is None:
        return OwnFiles()
    code = {CODE: config.builder.text.encode("utf-8")}
    if config.builder.pickled:
        code[PICKLED] = base64.b64decode(config.builder.pickled)
    found = network_files(model)
    return OwnFiles(code | dict(found.files), found.without)


def network_files(model: TrialModel) -> OwnFiles:
    """The network for prepared inputs: of ``torch.export`` and as ONNX, else of TorchScript, as far as torch can.

    ONNX is traced, which is silently wrong where a network's course depends on its numbers; so it is written only where
    ``torch.export``, which refuses that, has taken the network and the tracer warned of nothing.
    """
    import torch

    network, rows = model.network().eval(), torch.zeros(3, model.parts[-1].stop)
    files: dict[str, bytes] = {}
    without: dict[str, str] = {}
    for name, save in ((NETWORK, _exported), (ONNX, _onnx), (SCRIPT, _scripted)):
        if (name == SCRIPT and NETWORK in files) or (name == ONNX and NETWORK in without):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", torch.jit.TracerWarning)
            try:
                files[name] = save(network, rows)
            except Exception as error:  # of whatever kind: torch cannot, and the folder has the code
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                without[name] = f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
    return OwnFiles(files, without)


def _exported(network: Any, rows: Any) -> bytes:
    import torch

    whole = torch.export.export(network, (rows,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    out = io.BytesIO()
    torch.export.save(whole, out)
    return out.getvalue()


def _onnx(network: Any, rows: Any) -> bytes:
    import torch

    free = {"inputs": {0: "n"}, "outputs": {0: "n"}}
    with tempfile.TemporaryDirectory(prefix="sweeper-onnx-") as folder:
        file = Path(folder) / ONNX
        # dynamo=False: the exporter of traces needs no other package
        torch.onnx.export(
            network,
            (rows,),
            file,
            input_names=list(free)[:1],
            output_names=list(free)[1:],
            dynamic_axes=free,
            dynamo=False,
        )
        return file.read_bytes()


def _scripted(network: Any, rows: Any) -> bytes:
    import torch

    out = io.BytesIO()
    torch.jit.save(torch.jit.script(network), out)
    return out.getvalue()


def own_source(model: TrialModel) -> Mapping[str, str] | None:
    """What the scripts are told of the user's function, as Python source; None: the network is an MLP."""
    config = model.parts[0].config
    if not isinstance(config, OwnConfig) or config.builder is None:
        return None
    facts = ModelData.of(1, model.dataset.n_outputs)
    source = {
        "function": repr(config.builder.function),
        "pickled": repr(PICKLED) if config.builder.pickled else "",
        "code": repr(CODE),
    }
    return {
        "loading": render("model_own.py.j2", source).rstrip(),
        "n_outputs": repr(facts.n_outputs),
        "task": repr(facts.task),
    }


def own_training(model: TrialModel) -> Mapping[str, str] | None:
    """What retrain.py is told besides: the trial's values, and the dropout that takes the place of the module's."""
    from sweeper.models import dropout, own_layers

    told, config = own_source(model), model.parts[0].config
    if told is None or not isinstance(config, OwnConfig):
        return None
    constants = "MULTIPLIERS, WEYL, ROUNDS, LOW = "
    constants += ", ".join(map(repr, (dropout.MULTIPLIERS, dropout.WEYL, dropout.ROUNDS, dropout.LOW)))
    dropouts = f"DROPOUTS = ({', '.join(f'nn.{kind.__name__}' for kind in own_layers.DROPOUTS)})"
    of_dropout = (dropout.philox, dropout.words, dropout.threshold)
    of_layers = (own_layers.Draw, own_layers.RowDropout, own_layers.with_row_dropout, own_layers._exchange)
    sources = [inspect.getsource(part).rstrip() for part in (*of_dropout, *of_layers)]
    return {
        **told,
        "answers": repr(dict(config.own)),
        "dropout": "\n\n\n".join([f"{constants}\n{dropouts}", *sources]),
    }
