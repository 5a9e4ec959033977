"""What `pip install .` installs works by itself: the program, its ready-made spaces, migrations and templates."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.mark.slow
def test_an_installed_wheel_runs_without_the_checkout(tmp_path: Path) -> None:
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    # -P leaves out the working folder; the checkout is not on the path, except through the editable install's finder
    hide = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
    program = hide + "import sweeper; assert sweeper.__file__.startswith(sys.argv[1]); sys.argv.pop(1); "
    program += "from sweeper.cli.app import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(site), "SWEEPER_HOME": str(tmp_path / "home")}

    def sweeper(*words: str) -> str:
        command = [sys.executable, "-P", "-c", program, str(site), *words]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
        ).stdout

    assert "mlp" in sweeper("spaces")
    run = sweeper("run", "--dataset", "iris", "--trials", "4", "--set", "training.epochs=2", "--workers", "inline")
    assert "winner: trial" in run
    assert "report" in sweeper("report", "iris-mlp", "--json")
