"""``sweeper mcp``: the verbs as tools of the Model Context Protocol, for programs that drive sweeps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.errors import SweeperError

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

INSTALL = "It needs the package mcp. Install it with: pip install 'sweeper[mcp]'"
SECONDS = 600.0  # that a verb may take
ABOUT = """Hyperparameter sweeps for neural networks on tables. Start one with run_sweep, look at it with sweep_status
until its state is complete, then read report_sweep and best_trials. `sweeper schema VERB` describes the answers."""


def serve() -> None:
    """Serve the tools on stdin and stdout until the client goes.

    Raises:
        SweeperError: the package mcp is not installed.
    """
    make_server().run("stdio")


def make_server() -> MCPServer:
    """The server with its tools.

    Raises:
        SweeperError: the package mcp is not installed.
    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError as error:
        raise SweeperError(INSTALL) from error
    from sweeper import __version__

    server: MCPServer = MCPServer("sweeper", instructions=ABOUT, version=__version__)
    for tool in TOOLS:
        server.tool()(tool)
    return server


def run_sweep(sweep_file: dict[str, Any], workers: str = "auto") -> dict[str, Any]:
    """Start a sweep in the background. `sweep_file` is a sweep file as an object, such as
    {"dataset": {"path": "data.csv", "target": "y"}, "space": "tabular", "search": {"trials": 64}};
    relative paths start at the working directory. Returns the sweep's id."""
    from sweeper.cli.commands import find_place
    from sweeper.spec.parse import load_spec

    return _answered(lambda: find_place().detach(load_spec(sweep_file), None if workers == "auto" else workers))


def sweep_status(sweep: str) -> dict[str, Any]:
    """How far a sweep is, what it waits for, and its best trial so far."""
    return _verb("status", [sweep])


def list_sweeps(tag: str | None = None) -> dict[str, Any]:
    """All sweeps, newest first; with a tag only those that have it."""
    return _verb("list", [], ["--tag", tag] if tag else [])


def list_trials(sweep: str, state: str | None = None) -> dict[str, Any]:
    """The trials of a sweep by their value; state: complete, pruned, failed, stopped, running or waiting."""
    return _verb("trials", [sweep], ["--sort", "value", *(["--state", state] if state else [])])


def best_trials(sweep: str, k: int = 5) -> dict[str, Any]:
    """The best k trials of a sweep."""
    return _verb("best", [sweep], ["-k", str(k)])


def why_trial(sweep: str, trial: int) -> dict[str, Any]:
    """What happened to one trial."""
    return _verb("why", [sweep, str(trial)])


def report_sweep(sweep: str) -> dict[str, Any]:
    """The answer of a sweep in a sentence, and the file of its whole report (HTML)."""
    return _verb("report", [sweep])


def compare_sweeps(sweeps: list[str]) -> dict[str, Any]:
    """Two sweeps or more: what was changed, whose winner is better on new rows, and which effects agree."""
    return _verb("compare", sweeps)


def _verb(verb: str, arguments: Sequence[str], options: Sequence[str] = ()) -> dict[str, Any]:
    """What a verb prints, run in a process of its own: nothing that it does can disturb the protocol on stdout."""
    command = [sys.executable, "-m", "sweeper", verb, "--json", *options, "--", *arguments]

    def run() -> dict[str, Any]:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise SweeperError(lines[-1].removeprefix("sweeper: ") if lines else f"it ended with {done.returncode}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return _answered(run)


def _answered(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer, or an error that the client is told as it stands."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        return run()
    except SweeperError as error:
        raise ToolError(str(error)) from error


TOOLS: tuple[Callable[..., dict[str, Any]], ...] = (
    run_sweep,
    sweep_status,
    list_sweeps,
    list_trials,
    best_trials,
    why_trial,
    report_sweep,
    compare_sweeps,
)
