"""The README and the pages in docs/: their commands and examples work, their links lead somewhere, the tree is true."""

from __future__ import annotations

import os
import random
import re
import shlex
from pathlib import Path

import pytest
import yaml

import sweeper
from sweeper.cli.app import app
from sweeper.search_spaces import load_space
from sweeper.spec.models import SweepSpec
from sweeper.spec.parse import load_spec
from tests.faults import CLEARED

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
FOLDERS_WITH_NOTES = ["models", "search_spaces", "benchmarks", "deploy"]
ALL_PAGES = [*PAGES, "CHANGELOG.md", *(f"{folder}/README.md" for folder in FOLDERS_WITH_NOTES)]
SMALL = ["--workers", "inline", "--trials", "4", "--set", "training.epochs=2"]  # what a run gets here, to be quick
NOT_RUN = {  # commands that this test leaves to others, by how they begin
    "make demo": "makes an environment; the command it runs is in the README, too",
    "make test": "runs this test",
    "make up": "needs docker; tests/deploy builds, starts and breaks the stack",
    "docker compose": "needs docker; tests/deploy",
    "export SWEEPER_SERVER": "the client's tests run every verb on a server",
    "sweeper run sweep.yaml --priority": "only for a server: tests/integration/test_service.py",
    "sweeper budget": "only while a sweep runs: tests/integration/test_service.py",
    "sweeper serve": "serves until Ctrl-C: tests/acceptance/test_service_killed.py",
    "sweeper ui": "serves until Ctrl-C: tests/acceptance/test_mlflow_ui.py",
    "mlflow models serve": "serves until Ctrl-C: tests/acceptance/test_model_serving.py",
    "python winner/predict.py": "tests/unit/export/test_model_folder.py runs the exported scripts",
}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def commands(page: str) -> list[str]:
    """What a page tells its reader to type."""
    typed = [line for block in blocks(page, "sh") for line in block.splitlines()]
    shown = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [" ".join(shlex.split(line, comments=True)) for line in [*shown, *typed] if shlex.split(line, comments=True)]


def is_left_out(command: str) -> bool:
    return any(command.startswith(beginning) for beginning in NOT_RUN)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a reader, with a table of her own."""
    monkeypatch.chdir(tmp_path)
    for name in (*CLEARED, "SWEEPER_HOME"):
        monkeypatch.delenv(name, raising=False)
    write_table(tmp_path / "data.csv", 240)
    write_table(tmp_path / "visits.csv", 240, visits=True)
    write_table(tmp_path / "later.csv", 60, visits=True)
    return tmp_path


def write_table(file: Path, rows: int, visits: bool = False) -> None:
    """Rows of two classes that their income tells apart; ``visits`` of customers have dates, parts and weights, too."""
    draw, parts = random.Random(0), ("train", "train", "train", "validation", "test")
    lines = ["age,income,city,visits,label" + visits * ",customer,day,part,importance"]
    for row in range(rows):
        income, label = draw.gauss(30 + 10 * (row % 2), 5), "yes" if row % 2 else "no"
        line = f"{draw.randint(18, 80)},{income:.1f},{draw.choice('NSEW')},{draw.randint(0, 400)},{label}"
        more = f",c{row % 40},2026-{1 + row // 20:02d}-{1 + row % 20:02d},{parts[row % 5]},{draw.randint(1, 3)}"
        lines.append(line + visits * more)
    file.write_text("\n".join(lines) + "\n")


def write_files_of(page: str, folder: Path) -> None:
    """The Python files that a page shows: their first line is their name."""
    for block in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (folder / name[1]).write_text(block)


def carry_out(command: str) -> None:
    """One command of a page, made small. SWEEP and B are the newest sweep, A is the one before."""
    words = shlex.split(command)
    assert words[0] == "sweeper", f"{command}: not a command that this test can run; say in NOT_RUN who does"
    for name, place in {"SWEEP": 0, "B": 0, "A": 1}.items():
        if name in words:
            words[words.index(name)] = newest(place)
    quick = SMALL if words[1] == "run" else []
    code = app([*words[1:], *quick], standalone_mode=False)
    assert code in (None, 0), command


def newest(place: int = 0) -> str:
    """The id of the newest sweep in the reader's ledger; with a ``place`` of one that is so much older."""
    from sweeper.places.here import Here
    from sweeper.settings import Settings

    return Here(Settings.from_env()).ledger.sweeps(limit=place + 1)[place].sweep


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page) or blocks(page, "python")])
def test_the_commands_and_the_python_of_a_page_work(page: str, desk: Path) -> None:
    for command in commands(page):
        if is_left_out(command):
            continue
        if not (desk / "sweep.yaml").exists() and "sweep.yaml" in command and " init " not in command:
            app(["init", "sweep.yaml", "--dataset", "data.csv"], standalone_mode=False)
        if "SWEEP" in command.split() and not os.path.exists(".sweeper"):
            app(["run", "--dataset", "iris", *SMALL], standalone_mode=False)
        carry_out(command)
    for block in blocks(page, "python"):
        exec(made_runnable(block), {})


def made_runnable(block: str) -> str:
    """Python of a page, made small, with a run and a table where the page has names for them."""
    block = block.replace("trials=64", "trials=64, workers='inline', training={'epochs': 5}")
    if "PARENT_RUN" in block:
        run = sweeper.load(newest()).summary["mlflow"]["run_id"]
        table = "from sklearn.datasets import load_iris\ntable = load_iris(as_frame=True).data\n"
        block = table + block.replace("PARENT_RUN", run)
    return block


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_the_sweep_files_and_space_files_of_a_page_run(page: str, desk: Path) -> None:
    write_files_of(page, desk)
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block)
        if "dataset" in content or "objective" in content:
            assert set(content) <= set(SweepSpec.model_fields)
            (desk / "example.yaml").write_text(block)
            quick = SMALL if "dataset" in content else SMALL[:4]
            assert app(["run", "example.yaml", *quick], standalone_mode=False) in (None, 0)
        elif set(content) <= set(SweepSpec.model_fields):  # a section alone
            assert load_spec({"dataset": {"name": "iris"}, **content})
        else:
            (desk / "my_space.yaml").write_text(block)
            assert load_space(desk / "my_space.yaml")


def test_every_command_that_is_left_out_stands_in_a_page() -> None:
    typed = [command for page in PAGES for command in commands(page)]
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in typed)] == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in [title.lower().replace(" ", "-") for title in titles], f"{page}: {link}"


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_files_of_the_repository_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:sweeper|tests|models|search_spaces|deploy|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page}: {path}"


class TestReadme:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_it_can_be_read_in_one_go(self) -> None:
        assert len(self.text.splitlines()) <= 150

    def test_its_tree_names_the_folders_that_exist(self) -> None:
        [tree] = [block for block in re.findall(r"^```\n(.*?)^```$", self.text, re.M | re.S) if "sweeper/\n" in block]
        shown = set(re.findall(r"^ *(\w+)/", tree, re.M)) - {"sweeper"}
        rooms = {path.parent.name for path in (ROOT / "sweeper").glob("*/__init__.py")}
        assert shown == rooms
        assert {"models", "search_spaces"} <= rooms


def test_the_list_of_modules_of_the_engine_is_complete() -> None:
    listed = re.findall(r"^(\w+\.py) ", (ROOT / "models" / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "models").glob("*.py") if path.name != "__init__.py")
