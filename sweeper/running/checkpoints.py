"""Checkpoints of running trials: one file per trial, replaced atomically, checked when it is read, never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import SweeperError
from sweeper.training.legs import epochs_in

if TYPE_CHECKING:
    from torch import Tensor

VERSION = "1"
States = tuple[dict[str, Any], ...]  # one exported row (``sweeper.models.Cohort.export``) per replicate


class UnreadableCheckpoint(SweeperError):
    """The checkpoint is damaged or of another version: the trial has to start again."""


class Checkpoints:
    """The checkpoints of one sweep below ``folder``; the folder is made with the first one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._epochs: dict[int, int] = {}

    def save(self, number: int, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Replace the trial's checkpoint. A full disk costs the new one, never the old one.

        Raises:
            OSError: it cannot be written.
        """
        from safetensors.torch import save

        tensors = {
            f"{row}.{name}": tensor.contiguous() for row, state in enumerate(states) for name, tensor in state.items()
        }
        epochs = epochs_in(states)
        about = {"version": VERSION, "trial": str(number), "epochs": str(epochs), "sha256": _digest(tensors)}
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(number)
        scratch = path.with_suffix(".new")
        try:
            with scratch.open("wb") as file:
                file.write(save(tensors, about))
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        self._epochs[number] = epochs

    def load(self, number: int) -> States | None:
        """The trial's exported rows, or None when it has no checkpoint.

        Raises:
            UnreadableCheckpoint: it is damaged, or written by another version; it is deleted.
        """
        path = self._path(number)
        if not path.exists():
            return None
        try:
            tensors, about = _read(path)
            if about.get("version") != VERSION or about.get("trial") != str(number):
                raise ValueError(f"it is version {about.get('version')} of trial {about.get('trial')}")
            if about.get("sha256") != _digest(tensors):
                raise ValueError("its checksum is wrong")
        except Exception as error:  # safetensors raises its own kinds, some of them not public
            self.drop(number)
            raise UnreadableCheckpoint(f"the checkpoint could not be read ({error}): started again") from error
        rows: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            row, _, key = name.partition(".")
            rows.setdefault(int(row), {})[key] = tensor
        self._epochs[number] = epochs_in(tuple(rows.values()))
        return tuple(rows[row] for row in sorted(rows))

    def epochs(self, number: int) -> int:
        """How many finished epochs the trial's checkpoint holds; 0: there is none.

        Raises:
            UnreadableCheckpoint: as ``load``.
        """
        if number not in self._epochs:
            self.load(number)
        return self._epochs.get(number, 0)

    def drop(self, number: int) -> None:
        """Delete the trial's checkpoint, if there is one."""
        self._epochs.pop(number, None)
        with contextlib.suppress(OSError):
            self._path(number).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all of them."""
        self._epochs.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"trial-{number:06d}.safetensors"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    made = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        made.update(tensor.numpy().tobytes())
    return made.hexdigest()
