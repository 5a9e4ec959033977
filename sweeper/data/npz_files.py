"""NumPy archives: sizes from the array headers, two arrays read, and never a pickle."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from sweeper.data.checks import check_same_columns
from sweeper.data.files import FileTable, Kind, Roles
from sweeper.errors import SpecError
from sweeper.text import listed, nearest_column, shown

_FEATURES = ("x", "X")
_SAVE = "Save it with np.savez(path, x=features, y=target): x numbers of shape (rows, columns), y of shape (rows,)"
# What zipfile, zlib and numpy raise on bytes that are not an archive of arrays.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    IndexError,
    OverflowError,
)

Header = tuple[tuple[int, ...], np.dtype]


def npz_size(path: Path, target: str | None) -> tuple[int, int, int]:
    """Rows, columns with the target, and stored bytes of an archive, from its headers.

    Raises:
        SpecError: it is not an archive with two usable arrays.
    """
    headers = _headers(path)
    x, y = _choose(path, headers, target)
    (rows, columns), kind = headers[x]
    target_kind = headers[y][1]
    return rows, columns + 1, rows * (columns * kind.itemsize + target_kind.itemsize)


def read_npz(path: Path, target: str | None, roles: Roles, first: FileTable | None = None) -> FileTable:
    """The features, named x0, x1, ..., and the target; ``roles`` name such columns or more arrays of shape ``(n,)``.

    ``first`` is the archive that this one goes on.

    Raises:
        SpecError: as ``npz_size``, or the stored bytes do not fit their headers, or other columns than the first.
    """
    headers = _headers(path)
    x_name, y_name = _choose(path, headers, target)
    rows = headers[x_name][0][0]
    more = [
        name
        for name, (shape, kind) in headers.items()
        if name not in (x_name, y_name) and shape in ((rows,), (rows, 1)) and kind.kind in "biufUSM"
    ]
    try:
        with np.load(path, allow_pickle=False) as archive:
            x, y = archive[x_name], archive[y_name].reshape(-1)
            arrays = {name: archive[name].reshape(-1) for name in more if name in roles.uses.values()}
    except _BROKEN as error:
        raise _broken(path, error) from error
    x = x.astype(np.float64 if x.dtype.itemsize not in (1, 4, 8) else x.dtype.newbyteorder("="), copy=False)
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    names = (*frame, y_name, *more)
    if first is None:
        roles.check(names, y_name, str(path))
    else:
        check_same_columns([*frame, y_name, *arrays], (), first, roles, str(path))
    aside = {
        use: _series(arrays[name], name, path) if name in arrays else frame[name]
        for use, name in roles.present((*frame, *arrays)).items()
    }
    inputs = frame.drop(columns=[name for name in frame if name in roles.no_inputs])
    if not inputs.shape[1]:
        raise SpecError("it has no column to learn from", file=str(path))
    target_column = _series(y, y_name, path)
    kinds: dict[str, Kind] = {
        str(name): "bool" if kind.kind == "b" else "number" for name, kind in inputs.dtypes.items()
    }
    return FileTable(str(path), inputs, target_column, y_name, pd.DataFrame(aside), names, kinds)


def _series(y: np.ndarray, name: str, path: Path) -> pd.Series:
    """An array ``(n,)`` as a column of numbers or texts."""
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            raise SpecError("its texts are not UTF-8", file=str(path), key=f"array '{shown(name)}'") from error
    y = y.astype(object if y.dtype.kind == "U" else y.dtype.newbyteorder("="), copy=False)
    return pd.Series(y.astype(np.float64) if y.dtype.kind == "f" and y.dtype.itemsize != 8 else y)


def _headers(path: Path) -> dict[str, Header]:
    """Shape and type of every array, without reading its values."""
    found: dict[str, Header] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as file:
                        version = np.lib.format.read_magic(file)
                        read = (
                            np.lib.format.read_array_header_1_0
                            if version == (1, 0)
                            else np.lib.format.read_array_header_2_0
                        )
                        shape, _, kind = read(file)
                    found[member.removesuffix(".npy")] = (shape, kind)
    except _BROKEN as error:
        raise _broken(path, error) from error
    return found


def _choose(path: Path, headers: dict[str, Header], target: str | None) -> tuple[str, str]:
    """The names of the two arrays, checked by their headers."""
    features = [name for name in _FEATURES if name in headers]
    if len(features) != 1:
        problem = "it has both x and X" if features else "it has no array x"
        raise SpecError(f"{problem}; its arrays are {listed(headers)}", file=str(path), remedy=_SAVE)
    x, y = features[0], "y" if target is None else target
    if y not in headers or y == x:
        others = [name for name in headers if name != x]
        problem = f"there is no array '{shown(y)}' to predict"
        remedy = nearest_column(y, others).replace("columns", "arrays") if others else _SAVE
        raise SpecError(problem, file=str(path), key="dataset.target", remedy=remedy)
    for name, kinds, what in ((x, "biuf", "numbers"), (y, "biufUS", "numbers or texts")):
        kind = headers[name][1]
        if kind.hasobject:
            problem = "it holds pickled Python objects, which are never read"
            raise SpecError(problem, file=str(path), key=f"array '{shown(name)}'", remedy=_SAVE)
        if kind.kind not in kinds:
            problem = f"its type is {shown(kind)}, not {what}"
            raise SpecError(problem, file=str(path), key=f"array '{shown(name)}'", remedy=_SAVE)
    rows, size = headers[x][0], headers[y][0]
    if len(rows) != 2:
        remedy = "Store it as x.reshape(len(x), -1)" if len(rows) > 2 else _SAVE
        raise SpecError(f"its shape is {rows}, not (rows, columns)", file=str(path), key=f"array '{x}'", remedy=remedy)
    if size not in ((rows[0],), (rows[0], 1)):
        problem = f"its shape is {size}, not one target for each of the {rows[0]:,} rows of {x}"
        raise SpecError(problem, file=str(path), key=f"array '{shown(y)}'", remedy=_SAVE)
    if min(rows) < 1:
        raise SpecError(f"it holds no data: the shape is {rows}", file=str(path), key=f"array '{x}'", remedy=_SAVE)
    return x, y


def _broken(path: Path, error: Exception) -> SpecError:
    reason = shown(error, 120) or type(error).__name__
    return SpecError(f"it is not a NumPy archive that can be read ({reason})", file=str(path), remedy=_SAVE)
