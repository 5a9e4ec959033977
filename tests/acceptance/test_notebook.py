"""The example notebook runs from top to bottom and shows a result, a table and pictures."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "example.ipynb"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the last line of each code cell shows, by that line."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("SWEEPER_DATABASE_URL", raising=False)
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    shown = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            results = [output for output in cell.outputs if output.output_type == "execute_result"]
            shown[cell.source.splitlines()[-1]] = results[0].data if results else {}
    return shown


def test_the_result_shows_itself_as_html(outputs: dict[str, dict[str, Any]]) -> None:
    html = outputs["result"]["text/html"]
    assert "48 complete of 48 trials" in html
    assert "<table>" in html
    assert not re.search(r"src=|href=|<script", html)


def test_the_table_and_the_best_trial_are_there(outputs: dict[str, dict[str, Any]]) -> None:
    assert "learning_rate" in outputs["result.best"]["text/plain"]
    assert outputs['sweeper.load("notebook").trials.shape']["text/plain"].startswith("(48,")


@pytest.mark.parametrize("name", ["history", "curves", "parallel", "importance"])
def test_pictures_are_drawn(outputs: dict[str, dict[str, Any]], name: str) -> None:
    from io import BytesIO

    from PIL import Image

    picture = Image.open(BytesIO(base64.b64decode(outputs[f"result.plot_{name}()"]["image/png"])))
    assert picture.width > 500
    assert len(picture.convert("RGB").getcolors(maxcolors=1_000_000) or []) > 10  # it is not blank
