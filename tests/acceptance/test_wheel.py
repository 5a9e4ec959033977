"""What `pip install .` installs works by itself, in a project that has folders and files named like ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEW = ("--dataset", "iris", "--trials", "4", "--set", "training.epochs=2")
DEADLY = "raise RuntimeError('a file of the project was imported')\n"
SCRIPT = """
import sys
import sweeper

result = sweeper.run({"dataset": {"name": "iris"}, "search": {"trials": 4}, "training": {"epochs": 2}}, workers=1)
print(len(result.trials), result.best["trial"], list(result.trials["state"].unique()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and its dependencies, and knows nothing of the checkout."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    [packages] = folder.glob("lib/python*/site-packages")
    # the path alone: the links of an editable install in there are not followed
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "--no-deps", "--ignore-installed", str(wheel)], check=True)
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A working folder with modules of the user's own under our folders' names; importing one of them fails."""
    for package in ("models", "tests", "search_spaces"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(DEADLY)
    for module in ("models", "search_spaces", "config", "data"):
        (tmp_path / f"{module}.py").write_text(DEADLY)
    (tmp_path / "my_script.py").write_text(SCRIPT)
    return tmp_path


def run(project: Path, *command: object) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS", "PYTHONSAFEPATH")}
    environment |= {"SWEEPER_HOME": str(project / "home")}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=project,
        env=environment,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_holds_one_importable_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"sweeper"}
    for needed in ("models/solo.py", "search_spaces/mlp.yaml", "report/page.html.j2", "tracking/mlflow_schema.sql"):
        assert f"sweeper/{needed}" in names
    assert [name for name in names if name.startswith("sweeper/service/page/")]
    assert [name for name in names if name.startswith("sweeper/ledger/migrations/versions/v0001")]


@pytest.mark.slow
@pytest.mark.ray
def test_a_project_with_its_own_models_loses_no_trial(python: Path, project: Path) -> None:
    where = run(project, python, "-P", "-c", "import sweeper, sweeper.models as m; print(sweeper.__file__, m.__file__)")
    assert str(ROOT) not in where
    answer = json.loads(run(project, python.with_name("sweeper"), "run", *FEW, "--workers", "1", "--json"))
    assert (answer["complete"], answer["failed"]) == (4, 0)
    assert answer["best"] is not None
    inline = json.loads(run(project, python, "-m", "sweeper", "run", *FEW, "--workers", "inline", "--json"))
    assert inline["best"]["value"] == answer["best"]["value"]
    assert run(project, python, "my_script.py").split()[0] == "4"
    assert "mlp" in run(project, python, "-m", "sweeper", "spaces")
    assert "report" in run(project, python.with_name("sweeper"), "report", answer["sweep"], "--json")
