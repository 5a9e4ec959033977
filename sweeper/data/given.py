"""Tables and arrays that a Python program hands over, kept as files that are named by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpecError
from sweeper.text import shown

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KEY = "data"
_KINDS = "Give a pandas, Arrow or polars table, or (X, y)"


def keep(data: Any, target: str | None, folder: Path) -> tuple[Path, str | None]:
    """Write ``data`` below ``folder``, unless it lies there already; return the file and the target's name.

    ``data`` is a table with its target as a column (pandas, or whatever exports itself to Arrow), or a pair (X, y): X a
    table or an array ``(n, d)``, y of n values. An index is no column.

    Raises:
        SpecError: it is none of these, or holds what no file can hold.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not isinstance(data, tuple):
        return _keep_table(_table(data), folder), target
    if len(data) != 2:
        raise SpecError(f"it has {len(data)} parts, not X and y", key=KEY, remedy=_KINDS)
    x, y = data
    name = target or str(getattr(y, "name", None) or "y")
    if _is_table(x):
        return _keep_table(_with_target(_table(x), y, name), folder), name
    return _keep_arrays(x, y, name, folder), name


def _is_table(data: Any) -> bool:
    return hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns")


def _table(data: Any) -> pa.Table:
    import pandas as pd
    import pyarrow as pa

    if not _is_table(data):
        what = shown(type(data).__name__)
        raise SpecError(f"a {what} is no table", key=KEY, remedy=_KINDS)
    try:
        if isinstance(data, pd.DataFrame):
            named = data.set_axis([str(name) for name in data.columns], axis="columns")
            return pa.Table.from_pandas(named, preserve_index=False)
        return pa.table(data)
    except (pa.ArrowException, ValueError, TypeError) as error:
        remedy = "Every column needs values of one type: numbers, booleans or texts"
        raise SpecError(f"it cannot be written as a table ({shown(error, 300)})", key=KEY, remedy=remedy) from error


def _with_target(table: pa.Table, y: Any, name: str) -> pa.Table:
    if name in table.column_names:
        problem = f"X has a column '{shown(name)}', which is the target's name"
        raise SpecError(problem, key=KEY, remedy="Drop it from X, or give the target another name: target=")
    values = _vector(y, table.num_rows)
    return table.append_column(name, [values.tolist()])


def _keep_table(table: pa.Table, folder: Path) -> Path:
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part = Path(scratch, "data.parquet")
        pq.write_table(table, part)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _put(part, folder / digest[:32])


def _keep_arrays(x: Any, y: Any, name: str, folder: Path) -> Path:
    import numpy as np

    features = _array(x, "X")
    if features.ndim != 2:
        remedy = "Give X.reshape(len(X), -1)"
        raise SpecError(f"X has the shape {features.shape}, not (rows, columns)", key=KEY, remedy=remedy)
    if features.dtype.kind not in "biuf":
        try:
            features = features.astype(np.float64)
        except (ValueError, TypeError) as error:
            problem = f"X holds what is no number ({shown(error, 100)})"
            raise SpecError(problem, key=KEY, remedy="Give a table for columns of texts") from error
    values, name = _vector(y, len(features)), "y" if name in ("x", "X") else name
    digest = hashlib.sha256(repr((name, features.dtype, features.shape, values.dtype)).encode())
    digest.update(features.tobytes() + values.tobytes())
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part = Path(scratch, "data.npz")
        np.savez(part, **{"x": features, name: values})  # type: ignore[arg-type]
        return _put(part, folder / digest.hexdigest()[:32])


def _vector(y: Any, rows: int) -> np.ndarray:
    """y as an array ``(n,)`` of numbers, booleans or texts."""
    import numpy as np
    import pandas as pd

    values = _array(y, "y")
    if values.shape not in ((rows,), (rows, 1)):
        problem = f"y has the shape {values.shape}, and X {rows:,} rows"
        raise SpecError(problem, key=KEY, remedy="Every row of X needs one value of y")
    values = values.reshape(-1)
    if values.dtype.kind == "O":
        if pd.isna(values).any():
            raise SpecError("y has rows without a value", key=KEY, remedy="Remove these rows")
        values = np.array(values.tolist())
    if values.dtype.kind not in "biufU":
        raise SpecError(f"y holds {shown(values.dtype)}", key=KEY, remedy="y needs numbers, booleans or texts")
    return values


def _array(values: Any, what: str) -> np.ndarray:
    import numpy as np

    if hasattr(values, "toarray"):
        raise SpecError(f"{what} is a sparse matrix", key=KEY, remedy=f"Give {what}.toarray()")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise SpecError(f"{what} is no array ({shown(error, 200)})", key=KEY, remedy=_KINDS) from error


def _put(part: Path, folder: Path) -> Path:
    """Move a finished file to its place, where the same one may lie already."""
    folder.mkdir(exist_ok=True, mode=0o700)
    file = folder / part.name
    if not file.exists():
        os.replace(part, file)
    return file
