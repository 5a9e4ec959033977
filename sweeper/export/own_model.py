"""What the folder of a winner holds of a model of the user's own: its code, and where torch can the network itself."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeper.models.own_config import ModelData, OwnConfig

if TYPE_CHECKING:
    from sweeper.training.averaging import TrialModel

CODE, PICKLED, NETWORK, SCRIPT = "own_model.py", "own_model.pickle", "network.pt2", "network.pt"


def own_files(model: TrialModel) -> dict[str, bytes]:
    """The files by name; none of an MLP."""
    config = model.parts[0].config
    if not isinstance(config, OwnConfig) or config.builder is None:
        return {}
    found = {CODE: config.builder.text.encode("utf-8")}
    if config.builder.pickled:
        found[PICKLED] = base64.b64decode(config.builder.pickled)
    return found | network_file(model)


def network_file(model: TrialModel) -> dict[str, bytes]:
    """The network for prepared inputs as a file of ``torch.export``, else of TorchScript; none where torch refuses."""
    import torch

    network, rows = model.network().eval(), torch.zeros(3, model.parts[-1].stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, save in ((NETWORK, _exported), (SCRIPT, _scripted)):
            try:
                return {name: save(network, rows)}
            except Exception:  # noqa: S112 - of whatever kind: torch cannot, and the folder has the code
                continue
    return {}


def _exported(network: Any, rows: Any) -> bytes:
    import torch

    whole = torch.export.export(network, (rows,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    out = io.BytesIO()
    torch.export.save(whole, out)
    return out.getvalue()


def _scripted(network: Any, rows: Any) -> bytes:
    import torch

    out = io.BytesIO()
    torch.jit.save(torch.jit.script(network), out)
    return out.getvalue()


def own_source(model: TrialModel) -> Mapping[str, str] | None:
    """What predict.py is told of the user's function, as Python source; None: the network is an MLP."""
    config = model.parts[0].config
    if not isinstance(config, OwnConfig) or config.builder is None:
        return None
    facts = ModelData.of(1, model.dataset.n_outputs)
    return {
        "function": repr(config.builder.function),
        "pickled": repr(PICKLED) if config.builder.pickled else "",
        "code": repr(CODE),
        "n_outputs": repr(facts.n_outputs),
        "task": repr(facts.task),
    }
