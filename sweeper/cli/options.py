"""Arguments and options that several verbs have."""

from __future__ import annotations

from typing import Annotated

import typer

from sweeper.cli import streams

Sweep = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP", parser=streams.as_text, help="Id of the sweep, its first letters, or the sweep's name."
    ),
]
Priority = Annotated[
    int | None, typer.Option(min=-100, max=100, help="On a server, sweeps of higher priority run first.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Spec = Annotated[str | None, typer.Argument(metavar="[SPEC]", help="Sweep file (YAML).")]
Dataset = Annotated[
    str | None, typer.Option(help="Built-in dataset, or the path of a CSV, Parquet, Feather or npz file.")
]
Space = Annotated[str | None, typer.Option(help="Search space: a name, a YAML file, or file.py:function.")]
Trials = Annotated[int | None, typer.Option(help="Number of trials.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", parser=streams.as_text, help="Change one key of the sweep file."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of the search and of every trial.")]
Workers = Annotated[
    str | None, typer.Option(help="auto (the default: all GPUs, else all cores), a number, or inline (no Ray).")
]


def _use_server(url: str | None) -> None:
    if url is not None:
        from sweeper.cli import commands

        commands.use_server(url)


Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        callback=_use_server,
        expose_value=False,
        help="Address of a sweeper server. Default: SWEEPER_SERVER, else this machine. Token: SWEEPER_TOKEN.",
    ),
]
