"""Checkpoints come back bit for bit, and a damaged one is noticed whatever the damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.models import Cohort, TrainConfig, TrialConfig
from sweeper.running.checkpoints import Checkpoints, UnreadableCheckpoint
from tests.tiny import tiny_data

CONFIG = TrialConfig(hidden_layers=(4,), optimizer="adam")


def exported(epochs: int = 3) -> dict[str, torch.Tensor]:
    """A real row after some epochs."""
    cohort = Cohort(TrainConfig(epochs=9, batch_size=8), (4,), tiny_data(dtype=torch.float32), width=1)
    cohort.admit(0, CONFIG, seed=0)
    cohort.leg(epochs)
    return cohort.export(0)


def test_every_replicate_comes_back_bit_for_bit(tmp_path: Path) -> None:
    rows = (exported(), exported())
    Checkpoints(tmp_path / "new").save(7, rows)
    again = Checkpoints(tmp_path / "new")
    assert again.epochs(7) == 3
    loaded = again.load(7)
    assert loaded is not None
    for got, wanted in zip(loaded, rows, strict=True):
        assert got.keys() == wanted.keys()
        assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    assert again.load(8) is None
    assert again.epochs(8) == 0


def test_a_later_one_replaces_it_and_dropping_leaves_nothing(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, [exported(2)])
    store.save(1, [exported(5)])
    assert store.epochs(1) == 5
    assert [file.name for file in tmp_path.iterdir()] == ["trial-000001.safetensors"]
    store.drop(1)
    assert list(tmp_path.iterdir()) == []
    assert store.load(1) is None


def test_a_folder_that_cannot_be_written_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, [exported(2)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sweeper.running.checkpoints.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        store.save(1, [exported(5)])
    assert Checkpoints(tmp_path).epochs(1) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_another_trials_or_versions_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, [exported()])
    (tmp_path / "trial-000001.safetensors").rename(tmp_path / "trial-000002.safetensors")
    with pytest.raises(UnreadableCheckpoint, match="of trial 1"):
        store.load(2)
    store.save(1, [exported()])
    monkeypatch.setattr("sweeper.running.checkpoints.VERSION", "2")
    with pytest.raises(UnreadableCheckpoint, match="version 1"):
        Checkpoints(tmp_path).epochs(1)


CONTENT = exported()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_is_noticed_and_the_file_is_gone(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    store = Checkpoints(folder)
    store.save(1, [CONTENT])
    path = folder / "trial-000001.safetensors"
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    try:
        loaded = Checkpoints(folder).load(1)
    except UnreadableCheckpoint:
        assert not path.exists()
    else:  # the damage was to a byte that means nothing, such as a blank of the header
        assert loaded is not None
        assert all(torch.equal(loaded[0][name], CONTENT[name]) for name in CONTENT)
