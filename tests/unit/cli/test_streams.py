"""A verb that writes to a closed stream, a full disk or a terminal of few letters ends with its own exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLAIN_ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def sweeper(
    home: Path, arguments: str, redirection: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    command = f'"{sys.executable}" -m sweeper {arguments} {redirection}'
    env = {**os.environ, "SWEEPER_HOME": str(home), **environment}
    return subprocess.run(
        ["sh", "-c", command], check=False, env=env, capture_output=True, cwd=home.parent, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "redirection", "environment", "code", "says"),
    [
        ("spaces", ">&-", {}, 0, ""),
        ("spaces", "2>&-", {}, 0, "gradient_flow"),
        ("spaces", ">/dev/full", {}, 1, "No space left on device"),
        ("plan no.yaml", "2>/dev/full", {}, 2, ""),
        ("plan no.yaml", "2>&-", {}, 2, ""),
        ("status süß", "", PLAIN_ASCII, 4, r"'s\xfc\xdf'"),
        ("init größe.yaml --dataset süß.csv --target étiquette", "", PLAIN_ASCII, 0, "wrote gr"),
    ],
)
def test_no_stream_ends_a_verb_with_a_traceback(
    tmp_path: Path, arguments: str, redirection: str, environment: dict[str, str], code: int, says: str
) -> None:
    done = sweeper(tmp_path / "home", arguments, redirection, **environment)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == code, told
    assert says in told
    assert "internal error" not in told
    assert "Traceback" not in told


def test_a_sweep_file_written_in_an_ascii_terminal_holds_the_letters(tmp_path: Path) -> None:
    sweeper(tmp_path / "home", "init s.yaml --dataset süß.csv --target étiquette", **PLAIN_ASCII)
    assert "{path: süß.csv, target: étiquette}" in (tmp_path / "s.yaml").read_text(encoding="utf-8")
