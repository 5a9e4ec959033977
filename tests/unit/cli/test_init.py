"""The sweep file that `init` writes."""

from __future__ import annotations

from pathlib import Path

import yaml

from sweeper.cli.render import sweep_file
from sweeper.data.loading import has_few_rows


def test_a_table_of_few_rows_is_cut_into_folds_and_one_of_more_or_that_is_not_there_is_not(tmp_path: Path) -> None:
    for name, rows in (("few.csv", 2_000), ("many.csv", 4_000)):
        (tmp_path / name).write_text("a,label\n" + "1,2\n" * rows)
    for name, few in (("few.csv", True), ("many.csv", False), ("missing.csv", False)):
        assert has_few_rows(str(tmp_path / name)) is few
        split = yaml.safe_load(sweep_file({"path": name, "target": "label"}, few))["split"]
        assert split == {"test": 0.2, "seed": 0} | ({"folds": 5} if few else {"validation": 0.2})
