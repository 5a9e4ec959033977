"""What every section of a sweep file shares: strictness, and how a refusal is raised."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from sweeper.search_spaces.yaml_file import is_text

_DURATION = re.compile(r"(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s?)?")
MAX_SECONDS = 10 * 365 * 86_400


class Section(BaseModel):
    """A section of the sweep file: unknown keys are refused, types are not guessed, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


def refuse(problem: str, key: str = "", remedy: str | None = None) -> NoReturn:
    """Raise a validation error for the dotted ``key`` below the section being validated."""
    context: dict[str, Any] = {"problem": problem, "key": key, "remedy": remedy}
    raise PydanticCustomError("refused", "{problem}", context)


def column(value: Any) -> Any:
    """A column's name; a header that is a number reads as one in YAML."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    return text(value)


def text(value: Any) -> Any:
    """A text of ordinary characters; what is no text is left to the field's type."""
    if isinstance(value, str) and not is_text(value):
        refuse(f"{value[-40:]!r} holds a character that is not text", remedy="Use ordinary characters")
    return value


def seconds(value: Any) -> Any:
    """Seconds as a float from 600, "600", "90s", "10m" or "1h30m"."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip().lower()) if len(value) <= 40 else None
        if match is None or not any(match.groups()):
            refuse(f"{value[:40]!r} is not a duration", remedy="Write seconds, or a text such as 90s, 10m or 1h30m")
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        value = 3600 * hours + 60 * minutes + rest
    return value
