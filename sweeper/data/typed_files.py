"""Files whose columns have types: Parquet, as one file or as a folder of part files, and Feather."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from sweeper.errors import SpecError
from sweeper.text import listed, shown

IGNORED = (".", "_")  # names of files that begin so are no data: _SUCCESS, .part-0.crc


class TypedFile:
    """One table with its ``schema``; folders named KEY=VALUE are columns, as Spark and Hive write them."""

    def __init__(self, path: Path) -> None:
        """Open it, without reading its values.

        Raises:
            SpecError: it is no such file, or its parts do not go together.
        """
        self.path = path
        self._kind = "feather" if path.suffix.lower() == ".feather" else "parquet"
        if path.is_dir() and not parts_of(path):
            raise SpecError("the folder holds no Parquet file", file=str(path), remedy="Name a file, or another folder")
        with self._translated():
            self._dataset = self._open(())
            self.schema: pa.Schema = self._dataset.schema
            self.rows: int = self._dataset.count_rows()
            self._check_parts()

    def read(self, names: Sequence[str], texts: Sequence[str]) -> pa.Table:
        """The columns ``names``; ``texts`` come as codes into one dictionary each, where the file can do that."""
        with self._translated():
            known = [name for name in texts if not pa.types.is_dictionary(self.schema.field(name).type)]
            return self._open(known).to_table(columns=list(names))

    def _open(self, texts: Sequence[str]) -> ds.Dataset:
        form = self._kind
        if form == "parquet":
            form = ds.ParquetFileFormat(dictionary_columns=set(texts))
        source: object = str(self.path)
        if self.path.is_dir():
            source = [str(part) for part in parts_of(self.path)]
        root = str(self.path) if self.path.is_dir() else None
        return ds.dataset(source, format=form, partitioning="hive", partition_base_dir=root)

    def _check_parts(self) -> None:
        """See that all part files have the same columns: others would be left out without a word."""
        first, *others = self._dataset.get_fragments()
        for part in others:
            if not part.physical_schema.equals(first.physical_schema):
                names, wanted = set(part.physical_schema), set(first.physical_schema)
                different = listed([field.name for field in sorted(names ^ wanted, key=lambda field: field.name)], 5)
                problem = f"{different} in it is not as in {Path(first.path).name}"
                remedy = "All part files of a folder need the same columns of the same types"
                raise SpecError(problem, file=part.path, remedy=remedy)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
            kind = self._kind.capitalize()
            raise SpecError(f"it cannot be read as {kind} ({shown(error, 200)})", file=str(self.path)) from error


def parts_of(path: Path) -> list[Path]:
    """The data files of a folder in the order of their names, those in folders below it too; of a file itself."""
    if not path.is_dir():
        return [path]
    below = sorted(path.rglob("*.parquet"), key=lambda part: part.relative_to(path).parts)
    return [p for p in below if p.is_file() and not any(n.startswith(IGNORED) for n in p.relative_to(path).parts)]


def stored_bytes(path: Path) -> int:
    """The bytes of a file, or of the data files of a folder."""
    return sum(part.stat().st_size for part in parts_of(path))


def digest_of(path: Path) -> bytes:
    """The SHA-256 of a file; of a folder that of its data files' names and contents."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    whole = hashlib.sha256()
    for part in parts_of(path):
        whole.update(str(part.relative_to(path)).encode() + b"\0" + digest_of(part))
    return whole.digest()
