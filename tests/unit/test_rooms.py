"""The rooms are what their signs say: an `__init__` names the doors and imports nothing; the rest is behind them."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = sorted(p.parent.name for p in ROOT.glob("sweeper/*/__init__.py") if not p.parent.is_symlink())
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def modules_of(room: str) -> set[str]:
    folder = ROOT / "sweeper" / room
    files = {p.stem for p in folder.glob("*.py") if p.stem != "__init__"}
    return files | {p.parent.name for p in folder.glob("*/__init__.py")}


def behind_the_doors(room: str) -> set[str]:
    protected = [c["protected_modules"] for c in CONTRACTS if c["type"] == "protected"]
    return {name.split(".")[2] for names in protected for name in names if name.split(".")[1] == room}


@pytest.mark.parametrize("room", ROOMS)
def test_a_sign_is_a_sentence_and_the_doors_and_imports_nothing(room: str) -> None:
    tree = ast.parse((ROOT / "sweeper" / room / "__init__.py").read_text())
    assert [type(node) for node in tree.body] == [ast.Expr]
    purpose, _, doors = (ast.get_docstring(tree) or "").partition("\n\n")
    assert purpose.endswith(".")
    named = re.sub(r"\([^)]*\)|``[^`]*``", "", doors.partition(":")[2])
    listed = set(re.findall(r"[a-z_]+", named)) & modules_of(room)
    assert listed | behind_the_doors(room) == modules_of(room)
    assert not listed & behind_the_doors(room)


def test_every_file_of_the_hall_and_every_room_has_its_floor() -> None:
    [layers] = [c["layers"] for c in CONTRACTS if c["type"] == "layers"]
    placed = {name for floor in layers for name in floor.split(" | ")}
    assert set(ROOMS) <= placed
    assert len(ROOMS) == 14
