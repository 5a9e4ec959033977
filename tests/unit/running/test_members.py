"""The pool that an ensemble is chosen from: the best trials, in whatever order they end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweeper.running import members
from sweeper.running.members import MemberPool


def weights(number: int) -> dict[str, np.ndarray]:
    return {"0.weight": np.full((2, 3), number, dtype=np.float32)}


def test_the_best_are_kept_whatever_the_order_and_others_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "SIZE", 4)
    ranks = [(0.0, float(value), number) for number, value in enumerate(np.random.default_rng(0).integers(0, 9, 30))]
    ranks += [(1.0, -5.0, 30)]  # beyond a constraint
    for seed in range(3):
        pool = MemberPool(tmp_path / str(seed))
        for i in np.random.default_rng(seed).permutation(len(ranks)):
            pool.add(ranks[i], weights(ranks[i][2]))
        assert pool.numbers == [number for _, _, number in sorted(ranks)[:4]]
        assert pool.worst == sorted(ranks)[3]
        assert {file.name for file in pool.folder.iterdir()} == {f"trial-{n:06d}.safetensors" for n in pool.numbers}
        for number in pool.numbers:
            np.testing.assert_array_equal((pool.weights(number) or {})["0.weight"], weights(number)["0.weight"])


def test_what_a_controller_has_kept_is_there_for_the_next_one_and_damage_is_no_end(tmp_path: Path) -> None:
    first, next_one = MemberPool(tmp_path / "pool"), MemberPool(tmp_path / "pool")
    for number in range(3):
        first.add((0.0, 1.0, number), weights(number))
        next_one.add((0.0, 1.0, number), None)
    (tmp_path / "pool" / "trial-000001.safetensors").write_bytes(b"damaged")
    (tmp_path / "pool" / "trial-000002.safetensors").unlink()
    assert [next_one.weights(number) is None for number in next_one.numbers] == [False, True, True]
    next_one.clear()
    assert not (tmp_path / "pool").exists()
