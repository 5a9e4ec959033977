"""What every section of a sweep file shares: strictness, and how a refusal is raised."""

from __future__ import annotations

from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A section of the sweep file: unknown keys are refused, types are not guessed, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


def refuse(problem: str, key: str = "", remedy: str | None = None) -> NoReturn:
    """Raise a validation error for the dotted ``key`` below the section being validated."""
    context: dict[str, Any] = {"problem": problem, "key": key, "remedy": remedy}
    raise PydanticCustomError("refused", "{problem}", context)
