"""The MLflow UI on a sweep's store: a server process started here, or the links of one that runs already."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from sweeper.errors import SpecError, SweeperError
from sweeper.records import SweepRecord
from sweeper.settings import Settings
from sweeper.tracking.store import ENVIRONMENT, is_server, resolve_uri
from sweeper.tracking.view import view_url

START_SECONDS = 90.0
STOP_SECONDS = 5.0
PORTS = 20  # how many ports after a taken one are tried


@dataclass
class UiServer:
    """A running MLflow server; ``process`` is None when it is not ours."""

    url: str
    process: subprocess.Popen[bytes] | None = None

    def wait(self) -> None:
        """Until the server ends."""
        if self.process is not None:
            self.process.wait()

    def close(self) -> None:
        """End the server with its children."""
        if self.process is None:
            return
        for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()


def serve_ui(uri: str | None, home: Path, host: str = "127.0.0.1", port: int = 5000) -> UiServer:
    """The MLflow UI on this store, ready to answer. A store that is a server already needs no other.

    Raises:
        SpecError: no port from ``port`` on can be used.
        SweeperError: the server did not start; the message has the end of its output.
    """
    resolved = resolve_uri(uri, home)
    if is_server(resolved):
        return UiServer(resolved.rstrip("/"))
    port = _free_port(host, port)
    (home / "logs").mkdir(parents=True, exist_ok=True)
    log = home / "logs" / "mlflow-ui.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", resolved, "--artifacts-destination", (home.absolute() / "mlartifacts").as_uri()]
    environment = {**ENVIRONMENT, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    server = UiServer(f"http://{_address(host)}:{port}", process)
    try:
        _until_ready(server, log)
    except BaseException:
        server.close()
        raise
    return server


def open_ui(settings: Settings, sweep: SweepRecord | None, host: str, port: int, browser: bool) -> None:
    """Start the UI, print and open the link of the sweep's comparison view; stay until Ctrl-C or the server's end."""
    server = serve_ui(settings.mlflow_tracking_uri, settings.home, host, port)
    try:
        link = sweep_link(server.url, sweep)
        print(link, flush=True)
        if browser:
            import webbrowser

            webbrowser.open(link)
        if server.process is not None:
            print("Press Ctrl-C to stop the MLflow UI", file=sys.stderr, flush=True)
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


def sweep_link(base: str, sweep: SweepRecord | None) -> str:
    """A sweep's comparison view below a UI's address; the UI itself for a sweep that MLflow does not show."""
    if sweep is None or sweep.mlflow_experiment_id is None:
        return base
    return view_url(base, sweep.mlflow_experiment_id, sweep.sweep)


def _free_port(host: str, first: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem: OSError | None = None
    for port in range(first, min(first + PORTS, 65536)) if first else [0]:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                problem = error
                continue
            return int(probe.getsockname()[1])
    reason = problem.strerror if problem is not None else "no such port"
    raise SpecError(f"{host}:{first} cannot be used ({reason})", key="--port", remedy="Choose another host or port")


def _address(host: str) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"[{shown}]" if ":" in shown and not shown.startswith("[") else shown


def _until_ready(server: UiServer, log: Path) -> None:
    assert server.process is not None
    deadline = time.monotonic() + START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never ask a proxy for our own server
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            with opener.open(f"{server.url}/health", timeout=2.0):
                return
        except (OSError, HTTPException):  # nobody answers yet, or another program that was given the port meanwhile
            time.sleep(0.1)
    tail = " ".join(log.read_text(encoding="utf-8", errors="replace").split())[-600:]
    raise SweeperError(f"the MLflow UI did not start. The end of {log}: {tail}")
