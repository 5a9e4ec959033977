"""Settings come from the environment, and the home folder belongs to its owner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.settings import Settings


def test_an_empty_environment_gives_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({"SWEEPER_DATABASE_URL": "", "RAY_ADDRESS": ""})
    assert settings == Settings(home=tmp_path / ".sweeper")
    assert not settings.home.exists()


def test_every_variable_of_the_contract_is_read(tmp_path: Path) -> None:
    settings = Settings.from_env(
        {
            "SWEEPER_HOME": str(tmp_path / "a" / ".." / "home"),
            "SWEEPER_DATABASE_URL": "postgresql+psycopg://u:secret@h/d",
            "SWEEPER_SERVER": "http://localhost:8000",
            "SWEEPER_TOKEN": "secret",
            "MLFLOW_TRACKING_URI": "http://u:secret@localhost:5000",
            "RAY_ADDRESS": "10.0.0.1:6379",
        }
    )
    assert settings.home == tmp_path / "home"
    assert (settings.server, settings.ray_address) == ("http://localhost:8000", "10.0.0.1:6379")
    assert settings.database_url == "postgresql+psycopg://u:secret@h/d"
    assert (settings.token, settings.mlflow_tracking_uri) == ("secret", "http://u:secret@localhost:5000")
    assert "secret" not in repr(settings)


def test_the_home_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    home = Settings(home=tmp_path / "deep" / "home").ensure_home()
    assert home.stat().st_mode & 0o777 == 0o700
    assert Settings(home=home).ensure_home() == home
    assert list(home.iterdir()) == []


def test_a_home_that_cannot_be_made_is_an_error_with_the_variable_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(SpecError, match=r"SWEEPER_HOME: .*cannot be written.*set SWEEPER_HOME") as caught:
            Settings(home=home).ensure_home()
        assert caught.value.exit_code == 2


def test_settings_import_nothing_heavy() -> None:
    code = "import sys, sweeper.settings; print([m for m in sys.modules if m in ('sqlalchemy', 'pydantic', 'ray')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
