"""Tables of millions of rows load within the memory that was estimated for them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from sweeper.data.dataset import estimate
from sweeper.spec.parse import DatasetSpec

LOAD = """
import resource, sys
from sweeper.data.dataset import load_dataset
from sweeper.spec.parse import DatasetSpec, SplitSpec
import sweeper.data.preprocess, sweeper.data.tables, sweeper.data.splits, sweeper.data.targets, sklearn.model_selection
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = load_dataset(DatasetSpec(path=sys.argv[1], target="kind"), SplitSpec(), "standard")
assert data.n_inputs == int(sys.argv[2]), data.feature_names
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024)
"""


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("rows", [500_000, pytest.param(2_000_000, marks=pytest.mark.slow)])
def test_a_long_table_takes_no_more_memory_than_estimated(tmp_path, rows, suffix):
    random = np.random.default_rng(0)
    columns = {f"x{i}": random.normal(size=rows).astype(np.float32) for i in range(8)}
    columns["city"] = np.array(["Bonn", "Rome", "Oslo"])[random.integers(0, 3, rows)]
    table = pa.table({**columns, "kind": random.integers(0, 2, rows)})
    path = tmp_path / f"long.{suffix}"
    if suffix == "csv":
        pa.csv.write_csv(table, path)
    else:
        pa.parquet.write_table(table, path)
    del table, columns
    found = estimate(DatasetSpec(path=str(path), target="kind"))
    assert found.rows == pytest.approx(rows, rel=0.02)
    peak = int(subprocess.check_output([sys.executable, "-c", LOAD, str(path), "11"], text=True))
    print(f"{rows:,} rows of {suffix}: peak {peak / 1e6:.0f} MB, estimated {found.bytes / 1e6:.0f} MB")
    assert peak < found.bytes
