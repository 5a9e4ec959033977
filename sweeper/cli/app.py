"""The command line: parses arguments, calls one function of the package, prints what it returns."""

from __future__ import annotations

import errno
import gc
import logging
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from sweeper.cli import looking, service_verbs, streams
from sweeper.cli.options import (
    Dataset,
    Json,
    Priority,
    Seed,
    Server,
    Sets,
    Space,
    Spec,
    Sweep,
    Trials,
    Workers,
)
from sweeper.errors import NoTrialSucceeded, SpecError, SweeperError
from sweeper.states import SweepState

app = typer.Typer(
    name="sweeper",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
_WRITABLE = "Make it writable, or name another place"
_SPACE = "Free some space"
_REFUSALS = {
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.ENAMETOOLONG: "Name a shorter path",
    errno.EIO: "Check the disk",
}
GARBAGE = 20_000  # allocations between two looks for garbage: at Python's 700 that is a third of the time of imports


def _version(wanted: bool) -> None:
    if wanted:
        from sweeper import __version__

        print(f"sweeper {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also show the log messages of Ray and MLflow.")
    ] = False,
    server: Server = None,
) -> None:
    """Hyperparameter sweeps for MLPs on your own data. Start with: sweeper run --dataset digits --space mlp"""
    if verbose:
        import os

        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        logging.getLogger("sweeper").setLevel(logging.INFO)
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "INFO")


@app.command()
def run(
    spec: Spec = None,
    dataset: Dataset = None,
    space: Space = None,
    trials: Trials = None,
    sets: Sets = None,
    seed: Seed = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Stop after this time, such as 90s or 10m.")] = None,
    workers: Workers = None,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background and print the sweep's id.")] = False,
    priority: Priority = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Run a sweep to its end and show the winner."""
    from sweeper.cli import commands

    parsed = commands.read_spec(spec, dataset, space, trials, seed, name, timeout, sets or [])
    if detach:
        commands.run_detached(parsed, workers, json, priority)
    else:
        _end(commands.run(parsed, workers, json, priority))


@app.command()
def plan(
    spec: Spec = None,
    dataset: Dataset = None,
    space: Space = None,
    trials: Trials = None,
    sets: Sets = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Show what would run: trials, shapes, cohorts, memory and time. Starts nothing."""
    from sweeper.cli import commands
    from sweeper.running import planning

    parsed = commands.read_spec(spec, dataset, space, trials, seed, None, None, sets or [])
    commands.show(planning.plan(parsed, lambda: commands.find_place().ledger, commands.on_a_cluster()), json)


@app.command()
def resume(
    sweep: Sweep,
    trials: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Go on to this many trials in all, also when it is done.")
    ] = None,
    workers: Workers = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Continue an interrupted sweep until all its trials have ended, or any sweep to more trials."""
    from sweeper.cli import commands

    _end(commands.resume(sweep, workers, trials, json))


@app.command()
def stop(sweep: Sweep, json: Json = False, server: Server = None) -> None:
    """Stop a sweep. Unfinished trials become `stopped`; `resume` continues them."""
    from sweeper.cli import commands

    commands.end(sweep, SweepState.STOPPED, json)


@app.command()
def pause(sweep: Sweep, json: Json = False, server: Server = None) -> None:
    """Pause a sweep: finish the epochs in training, start nothing new until `resume`."""
    from sweeper.cli import commands

    commands.end(sweep, SweepState.PAUSED, json)


@app.command()
def retry(
    sweep: Sweep,
    failed: Annotated[bool, typer.Option("--failed", help="Run the failed trials again.")] = False,
    workers: Workers = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Run failed trials again."""
    from sweeper.cli import commands

    if not failed:
        raise SpecError("no option was given", key="retry", remedy="Add --failed to run the failed trials again")
    _end(commands.retry(sweep, workers, json))


@app.command()
def budget(
    sweep: Sweep,
    trials: Annotated[int | None, typer.Option(min=1, help="New number of trials.")] = None,
    priority: Priority = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Change a sweep's number of trials or its priority, also while it runs."""
    from sweeper.cli import commands

    commands.budget(sweep, trials, priority, json)


@app.command()
def export(
    sweep: Sweep,
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="CSV file to write; - for stdout.")] = None,
    optuna: Annotated[str | None, typer.Option("--optuna", metavar="URL", help="Optuna database to write to.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="DIR", help="New folder for the winning model.")
    ] = None,
    json: Json = False,
    server: Server = None,
) -> None:
    """Export the trials as CSV or as an Optuna study, or the winning model with scripts that use it."""
    from sweeper.cli import commands

    commands.export(sweep, csv, optuna, model, json)


@app.command()
def delete(
    sweep: Sweep,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    server: Server = None,
) -> None:
    """Delete a sweep from the ledger and its runs from MLflow."""
    from sweeper.cli import commands

    commands.delete(sweep, yes, json)


@app.command()
def ui(
    sweep: Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="Open this sweep's comparison view.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; the next free one when it is taken.")] = 5000,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    server: Server = None,
) -> None:
    """Open the sweep's comparison view in the MLflow UI. Starts the UI unless MLflow is on a server."""
    from sweeper.cli import commands

    commands.ui(sweep, host, port, browser)


@app.command()
def doctor(json: Json = False, server: Server = None) -> None:
    """Check this machine, Ray, the ledger and MLflow, and say how to fix what is wrong."""
    from sweeper.cli.doctor import diagnose

    if not diagnose(json):
        raise typer.Exit(1)


@app.command()
def init(
    path: Annotated[str, typer.Argument(metavar="[FILE]", help="Sweep file to write.")] = "sweep.yaml",
    dataset: Dataset = None,
    target: Annotated[
        str | None, typer.Option(parser=streams.as_text, help="Column to predict, for a data file.")
    ] = None,
) -> None:
    """Write a commented sweep file to start from."""
    from sweeper.cli import commands

    commands.init(path, dataset, target)


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(metavar="[SPACE]", help="Show this space.")] = None, json: Json = False
) -> None:
    """List the ready-made search spaces, or show one."""
    from sweeper.cli import commands

    commands.spaces(name, json)


@app.command()
def datasets(json: Json = False) -> None:
    """List the built-in datasets."""
    from sweeper.cli import commands

    commands.datasets(json)


@app.command()
def schema(
    verb: Annotated[str | None, typer.Argument(metavar="[VERB]", help="A verb that has --json.")] = None,
) -> None:
    """Print the JSON schema of what a verb prints with --json."""
    from json import dumps

    from sweeper.cli.schemas import ANSWERS, schema_of
    from sweeper.errors import nearest

    if verb is None:
        print("\n".join(ANSWERS))
    elif verb in ANSWERS:
        print(dumps(schema_of(verb), indent=1))
    else:
        raise SpecError(f"{verb[:40]!r} is no verb with an answer", key="schema", remedy=nearest(verb, ANSWERS))


@app.command()
def mcp() -> None:
    """Serve the verbs as tools of the Model Context Protocol, on stdin and stdout."""
    from sweeper.cli.mcp_server import serve

    serve()


app.add_typer(looking.verbs)
service_verbs.register(app)


def _end(summary: dict[str, Any]) -> None:
    """Exit code 3 when no trial succeeded."""
    if summary["best"] is None:
        from sweeper.cli import commands

        raise NoTrialSucceeded(commands.advice(summary["sweep"]))


def main() -> None:
    """Entry point: every error becomes one message and an exit code; a traceback goes to a file."""
    gc.set_threshold(GARBAGE, 10, 10)
    # requests ignores it, too, but a thread that puts filters back meanwhile (scikit-learn's fits do) undoes that
    warnings.filterwarnings("ignore", module=r"urllib3\.contrib")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home folder that cannot be written
    streams.prepare()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == INTERRUPTED:  # typer's exit code for Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except TyperException as error:
        streams.tell(f"sweeper: {error.format_message()} (see sweeper --help)")
        sys.exit(error.exit_code)
    except SweeperError as error:
        streams.tell(f"sweeper: {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        streams.tell("sweeper: interrupted. What was written is safe; go on with: sweeper resume SWEEP")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has enough of it
        streams.let_go()
        sys.exit(0)
    except OSError as error:
        sys.exit(_refused_by_system(error))
    except UnicodeEncodeError as error:
        sys.exit(_not_text(error))
    except Exception as error:
        sys.exit(_internal_error(error))
    finally:  # the process ends: a last look for garbage among all that was imported would take 1.5 s
        gc.disable()
        gc.freeze()


def _refused_by_system(error: OSError) -> int:
    """A folder that is full or not ours is no fault of the program; other errors of the system are."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        streams.tell("sweeper: the folder that this command was started in is gone. Change to one that exists")
        return SpecError.exit_code
    if error.errno not in _REFUSALS:
        return _internal_error(error)
    streams.let_go()
    where = str(error.filename) if error.filename is not None else "the output"
    streams.tell(f"sweeper: {where} cannot be used ({error.strerror}). {_REFUSALS[error.errno]}")
    return 1


def _not_text(error: UnicodeEncodeError) -> int:
    """A path whose bytes are no UTF-8 can be neither kept nor shown, and whatever meets it first says so."""
    if error.reason != "surrogates not allowed":
        return _internal_error(error)
    streams.tell(f"sweeper: {streams.as_text(error.object)[:200]!r} is not UTF-8. Rename the file or folder")
    return SpecError.exit_code


def _internal_error(error: Exception) -> int:
    """Keep the traceback in a file, show one line."""
    import tempfile
    import traceback

    text = str(error).strip().splitlines()
    streams.tell(f"sweeper: internal error: {type(error).__name__}: {text[0] if text else ''}")
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="sweeper-error-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            traceback.print_exception(error, file=file)
        streams.tell(f"sweeper: the traceback is in {file.name}; please report it")
    except OSError as problem:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}, line {frame.lineno}"
        streams.tell(f"sweeper: it came from {where}, and its traceback cannot be kept ({problem.strerror})")
    return 1
