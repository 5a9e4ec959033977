"""The script beside an exported winner, run as a program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from sweeper.data import numerals
from sweeper.data.dataset import load_dataset
from sweeper.export.model_folder import _predicting, _preprocessing
from sweeper.export.templates import render
from sweeper.models import TrialConfig, build_mlp
from sweeper.spec.parse import SplitSpec, load_spec
from sweeper.training.averaging import model_of


def test_predictions_are_utf_8_in_a_terminal_of_ascii_and_may_be_read_in_part(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=3000), "größe": random.choice(["klein", "groß"], 3000)})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    table = {"path": str(tmp_path / "rows.csv"), "target": "größe"}
    dataset = load_dataset(load_spec({"dataset": table}).dataset, SplitSpec(), "standard")
    config = TrialConfig(hidden_layers=(4,))
    network = build_mlp(config, dataset.n_inputs, dataset.n_outputs, seed=0)
    model = model_of(dataset, config, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    save_file(model.named_weights(), tmp_path / "weights.safetensors")
    (tmp_path / "preprocessing.json").write_text(json.dumps(_preprocessing(dataset)), encoding="utf-8")
    (tmp_path / "predict.py").write_text(render("model_predict.py.j2", _predicting(model)), encoding="utf-8")
    shutil.copy(numerals.__file__, tmp_path)
    command = f'"{sys.executable}" predict.py rows.csv | head -n 1'
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert done.stdout.decode("utf-8") == "größe,probability of groß,probability of klein\n"
    assert done.stderr == b""
