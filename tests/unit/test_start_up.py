"""The command line starts without the heavy libraries; what needs them imports them later."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_no_engine(words: list[str]) -> None:
    program = (
        "import sys; sys.argv[0] = 'sweeper'\n"
        "from sweeper.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'sklearn', 'numpy', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_controller_needs_comes_without_torch_and_scipy_stats() -> None:
    """With Ray the workers import torch beside the driver: its own second would come before the first step."""
    program = (
        "import sys\n"
        "from sweeper.models import TrainConfig, TrialConfig, rows_that_fit\n"
        "import sweeper.places.here, sweeper.running.local, sweeper.running.controller\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'sklearn', 'scipy.stats'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_models_need_torch_and_numpy_only() -> None:
    program = (
        "import sys\nfrom sweeper import models\n"
        "for name in models.__all__:\n    assert getattr(models, name) is not None\n"
        "others = {'ray', 'mlflow', 'optuna', 'pandas', 'sklearn', 'sqlalchemy', 'pydantic', 'scipy'}\n"
        "others &= set(sys.modules)\n"
        "assert not others, others"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
