"""Tags, notes and archived sweeps, and the list that is filtered and sorted by them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sweeper.cli import labels
from sweeper.errors import SpecError
from sweeper.ledger.opening import open_ledger
from tests.ended_sweeps import end_trials, new_sweep, spec_of


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three sweeps with 3, 1 and 0 complete trials."""
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path))
    for name in ("SWEEPER_DATABASE_URL", "SWEEPER_SERVER"):
        monkeypatch.delenv(name, raising=False)
    ledger = open_ledger(None, tmp_path)
    found = [new_sweep(ledger, spec_of(name=name)).sweep for name in ("b", "c", "a")]
    end_trials(ledger, found[0], range(3))
    end_trials(ledger, found[1], range(1))
    ledger.close()
    return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    def last() -> Any:
        return json.loads(capsys.readouterr().out)

    return last


def listed(said: Any, tags: tuple[str, ...] = (), sort: str | None = None, **options: Any) -> list[str]:
    said_since, archived = options.get("since"), options.get("archived", False)
    labels.list_sweeps(tags, sort, said_since, archived, True)
    return [row["name"] for row in said()["sweeps"]]


def test_a_list_is_filtered_by_tags_time_and_archive(sweeps: list[str], said: Any) -> None:
    assert listed(said) == ["a", "c", "b"]  # the newest first
    for sweep, tags in zip(sweeps, (["x", "y"], ["x"], ["z"]), strict=True):
        labels.tag(sweep, tags, [], True)
        assert said()["tags"] == tags
    assert listed(said, ("x",)) == ["c", "b"]
    assert listed(said, ("x", "y")) == ["b"]
    assert listed(said, ("q",)) == []
    labels.archive(sweeps[1], True, True)
    said()
    assert listed(said, ("x",)) == ["b"]
    assert listed(said, ("x",), archived=True) == ["c", "b"]
    tomorrow = time.strftime("%Y-%m-%d", time.localtime(time.time() + 86_400))
    assert listed(said, since="1h") == ["a", "b"]
    assert listed(said, since=tomorrow) == []
    assert listed(said, since="2020-01-01T10:00") == ["a", "b"]


def test_a_list_is_sorted_and_what_has_no_value_comes_last(sweeps: list[str], said: Any) -> None:
    assert listed(said, sort="name") == ["a", "b", "c"]
    assert listed(said, sort="-complete") == ["b", "c", "a"]
    best = listed(said, sort="best")
    assert set(best[:2]) == {"b", "c"}
    assert best[2] == "a"  # nothing is complete


def test_a_note_is_kept_whole_and_its_first_line_listed(
    sweeps: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    labels.note(sweeps[0], "first line\nsecond", False)
    labels.note(sweeps[0], None, False)
    assert capsys.readouterr().out == "first line\nsecond\n" * 2
    labels.list_sweeps([], None, None, False, False)
    out = capsys.readouterr().out
    assert "first line" in out
    assert "second" not in out
    assert "failed" not in out  # nothing did


@pytest.mark.parametrize(
    ("problem", "call"),
    [
        ("is not a tag", lambda sweep: labels.tag(sweep, ["a\nb"], [], True)),
        ("is not a tag", lambda sweep: labels.tag(sweep, [" "], [], True)),
        ("has no tag 'a'", lambda sweep: labels.tag(sweep, [], ["a"], True)),
        ("51 tags", lambda sweep: labels.tag(sweep, [str(i) for i in range(51)], [], True)),
        ("10,001 letters", lambda sweep: labels.note(sweep, "x" * 10_001, True)),
        ("cannot sort by", lambda sweep: labels.list_sweeps([], "nme", None, False, True)),
        ("is no time", lambda sweep: labels.list_sweeps([], None, "yesterday", False, True)),
    ],
)
def test_what_is_no_label_is_refused(problem: str, call: Any, sweeps: list[str]) -> None:
    with pytest.raises(SpecError, match=problem):
        call(sweeps[0])
