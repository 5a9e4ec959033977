"""The verbs that look at sweeps, and those that label them."""

from __future__ import annotations

from typing import Annotated

import typer

from sweeper.cli import streams
from sweeper.cli.options import Json, Server, Sweep

verbs = typer.Typer()


@verbs.command("list")
def list_(
    tag: Annotated[
        list[str] | None, typer.Option("--tag", parser=streams.as_text, help="Only sweeps with this tag; repeatable.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="created, name, state, requested, complete, seconds or best; -NAME: descending.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only sweeps made since then: 7d, 12h, or a date such as 2026-11-29.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Also list archived sweeps.")] = False,
    json: Json = False,
    server: Server = None,
) -> None:
    """List the sweeps, newest first."""
    from sweeper.cli import labels

    labels.list_sweeps(tag or [], sort, since, archived, json)


@verbs.command()
def status(
    sweep: Sweep,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every 2 seconds until the sweep ends.")] = False,
    json: Json = False,
    server: Server = None,
) -> None:
    """Show the progress of a sweep, and why trials are waiting."""
    from sweeper.cli import commands

    commands.status(sweep, watch, json)


@verbs.command()
def trials(
    sweep: Sweep,
    state: Annotated[str | None, typer.Option(help="Only trials in this state.")] = None,
    sort: Annotated[
        str | None, typer.Option(help="Column or metric to sort by, such as value; -NAME: descending.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many trials.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many before them.")] = 0,
    json: Json = False,
    server: Server = None,
) -> None:
    """List the trials of a sweep, all of them or a page."""
    from sweeper.cli import commands

    commands.list_trials(sweep, state, sort, csv, json, limit, offset)


@verbs.command()
def best(
    sweep: Sweep,
    k: Annotated[int, typer.Option("-k", min=1, help="How many trials.")] = 1,
    json: Json = False,
    server: Server = None,
) -> None:
    """Show the best trials of a sweep."""
    from sweeper.cli import commands

    commands.best(sweep, k, json)


@verbs.command()
def why(
    sweep: Sweep,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="Trial number.", min=0)],
    json: Json = False,
    server: Server = None,
) -> None:
    """Explain what happened to one trial."""
    from sweeper.cli import commands

    commands.why(sweep, trial, json)


@verbs.command()
def logs(
    sweep: Sweep,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="Trial number.", min=0)],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the trial ends.")] = False,
    server: Server = None,
) -> None:
    """Print what a trial of an objective of your own has printed."""
    from sweeper.cli.trial_logs import logs as show

    show(sweep, trial, follow)


@verbs.command()
def report(
    sweep: Sweep,
    out: Annotated[
        str | None, typer.Option(metavar="F.html", help="File to write; default: in the sweep's folder.")
    ] = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Write a sweep's report: one HTML file with the answer, its evidence and what to try next."""
    from sweeper.cli import commands

    commands.report(sweep, out, json)


@verbs.command()
def compare(
    sweeps: Annotated[
        list[str],
        typer.Argument(metavar="SWEEP...", parser=streams.as_text, help="Two sweeps or more, by id or name."),
    ],
    seeds: Annotated[
        int, typer.Option(min=0, max=20, help="Fresh seeds that each winner is trained on; 0: train nothing.")
    ] = 5,
    out: Annotated[str | None, typer.Option(metavar="F.html", help="Also write the answer as a page.")] = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Compare sweeps: what was changed, whose winner is better on new rows, and which effects agree."""
    from sweeper.cli.compare import compare as show

    show(sweeps, seeds, out, json)


@verbs.command()
def note(
    sweep: Sweep,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", parser=streams.as_text, help="The new note; '' removes it.")
    ] = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Show or write the note of a sweep: what it was for, what came out."""
    from sweeper.cli import labels

    labels.note(sweep, text, json)


@verbs.command()
def tag(
    sweep: Sweep,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="[TAG]...", parser=streams.as_text, help="Tags to add.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", parser=streams.as_text, help="A tag to remove; repeatable.")
    ] = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Show, add or remove the tags of a sweep; `list --tag` finds it by them."""
    from sweeper.cli import labels

    labels.tag(sweep, tags or [], remove or [], json)


@verbs.command()
def archive(
    sweep: Sweep,
    undo: Annotated[bool, typer.Option("--undo", help="List the sweep again.")] = False,
    json: Json = False,
    server: Server = None,
) -> None:
    """Take a sweep off the list without deleting anything."""
    from sweeper.cli import labels

    labels.archive(sweep, not undo, json)
