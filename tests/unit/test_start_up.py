"""The command line starts without the heavy libraries; what needs them imports them later."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_no_engine(words: list[str]) -> None:
    program = (
        "import sys; sys.argv[0] = 'sweeper'\n"
        "from sweeper.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'sklearn', 'numpy', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_models_need_torch_and_numpy_only() -> None:
    program = (
        "import sys, models\n"
        "others = {'ray', 'mlflow', 'optuna', 'pandas', 'sklearn', 'sqlalchemy', 'pydantic', 'scipy'}\n"
        "others &= set(sys.modules)\n"
        "assert not others, others"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
