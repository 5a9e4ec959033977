"""The one error a wrong space raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """One thing to correct: the dotted key it stands at (None: the space as a whole), what is wrong, what to do."""

    key: str | None
    problem: str
    remedy: str | None


class SpaceError(ValueError):
    """A search space has to be corrected. ``problems`` lists everything found, the attributes show the first."""

    def __init__(
        self, problem: str, *, key: str | None = None, remedy: str | None = None, file: str | None = None
    ) -> None:
        self.problems: tuple[Problem, ...] = (Problem(key, problem, remedy),)
        self.file = file
        super().__init__(problem)

    @classmethod
    def many(cls, problems: Sequence[Problem], file: str | None = None) -> SpaceError:
        """One error for all problems of a space; there must be at least one."""
        error = cls(problems[0].problem, key=problems[0].key, remedy=problems[0].remedy, file=file)
        error.problems = tuple(problems)
        return error

    @property
    def key(self) -> str | None:
        """Where the first problem stands, e.g. ``learning_rate.float``."""
        return self.problems[0].key

    @property
    def problem(self) -> str:
        """What is wrong, of the first problem."""
        return self.problems[0].problem

    @property
    def remedy(self) -> str | None:
        """What to do about the first problem."""
        return self.problems[0].remedy

    def __str__(self) -> str:
        return f"{self.file + ': ' if self.file else ''}{'; '.join(map(_sentence, self.problems))}"


def _sentence(found: Problem) -> str:
    return f"{found.key + ': ' if found.key else ''}{found.problem}{'. ' + found.remedy if found.remedy else ''}"


def shown(value: Any) -> str:
    """The value as a message shows it: its repr, cut at 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more than 4300 digits, a list that holds itself
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
