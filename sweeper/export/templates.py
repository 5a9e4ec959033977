"""Fills the templates of the scripts and the model card that an export holds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def render(template: str, fields: Mapping[str, Any]) -> str:
    """A template of this folder with its fields filled in, which are Python source or Markdown."""
    from jinja2 import Environment, StrictUndefined

    # scripts and Markdown, no HTML: what is filled in comes as Python literals, or through _cell
    environment = Environment(
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(files("sweeper.export").joinpath(template).read_text(encoding="utf-8")).render(
        fields
    )
