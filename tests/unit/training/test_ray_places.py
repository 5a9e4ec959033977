"""Where Ray's files and token go when the user's temporary folder or home folder cannot be used."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from sweeper.training import ray_places


@pytest.mark.parametrize(
    ("folder", "why"),
    [("x" * 80, "43 bytes"), ("/dev/null", "cannot be written"), ("/tmp/größe", "ASCII")],
)
def test_a_temporary_folder_that_ray_cannot_use_is_replaced_by_a_short_one_with_a_warning(
    folder: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with caplog.at_level(logging.WARNING, "sweeper"):
        assert ray_places.usable_folder() == ray_places.SHORT
    assert why in caplog.text


def test_a_usable_temporary_folder_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert ray_places.usable_folder() is None


def test_a_home_folder_that_cannot_be_written_gives_ray_a_token_of_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    ray_places.lend_token()
    assert os.environ["RAY_AUTH_TOKEN"] == "given"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    ray_places.lend_token()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("HOME", "/dev/null")
    ray_places.lend_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN")
