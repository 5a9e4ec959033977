"""What `sweeper doctor` looks at: everything a sweep needs of this machine and of its services."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sweeper.errors import SpecError, SweeperError
from sweeper.settings import Settings

State = Literal["ok", "warning", "failure"]
DEADLINE = 45.0  # seconds a check may take; Ray has a longer one of its own
RAY_DEADLINE = 90.0
GIB = 1 << 30
SHARED_MEMORY = GIB // 2  # Ray keeps each sweep's data there; docker gives 64 MiB unless told otherwise
DISK_LITTLE, DISK_NONE = 2 * GIB, GIB // 10
SLOW_WRITE = 0.25  # seconds; a commit takes milliseconds, and a sweep waits for every one
SKEW = 2.0  # seconds; leases go by the ledger's clock alone, so this only makes times hard to compare
_PASSWORD = re.compile(r"://[^/\s@]+@")
_REINSTALL = "Install again in a fresh environment: pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do about it (empty when it is well)."""

    name: str
    state: State
    found: str
    fix: str = ""


def diagnose(as_json: bool) -> bool:
    """Print what was checked; false when something must be fixed. Needs none of the libraries that it checks."""
    print("sweeper: checking everything that a sweep needs; this can take a minute", file=sys.stderr)
    rows = [asdict(check) for check in examine(Settings.from_env())]
    failures, warnings = (sum(row["state"] == state for row in rows) for state in ("failure", "warning"))
    if as_json:
        print(json.dumps({"checks": rows, "ok": not failures}))
    else:
        from sweeper.cli import render

        render.table(rows)
        print(f"failures: {failures}, warnings: {warnings}" if failures or warnings else "all is well")
    return not failures


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, one check after another. A check that raises or does not end is a failure."""
    for look, fix in CHECKS:
        yield _bounded(look, fix, settings)
    if settings.server is not None:
        yield _bounded(server, "Check SWEEPER_SERVER or --server, and SWEEPER_TOKEN", settings)


def python(settings: Settings) -> Check:
    """The interpreter against what the package requires."""
    from importlib.metadata import metadata

    from packaging.specifiers import SpecifierSet

    wanted, version = metadata("sweeper")["Requires-Python"], platform.python_version()
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Check("python", "ok", version)
    return Check(
        "python", "failure", f"{version}, but {wanted} is required", "Create the environment with a newer Python"
    )


def libraries(settings: Settings) -> Check:
    """The installed libraries against the versions that the package requires."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wrong, versions = [], {}
    for wanted in map(Requirement, requires("sweeper") or []):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            versions[wanted.name] = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(versions[wanted.name], prereleases=True):
            wrong.append(f"{wanted.name} is {versions[wanted.name]}, but {wanted.specifier} is required")
    if wrong:
        return Check("libraries", "failure", "; ".join(wrong), _REINSTALL)
    shown = ", ".join(f"{name} {versions[name]}" for name in ("torch", "ray", "optuna", "mlflow", "sqlalchemy"))
    return Check("libraries", "ok", f"{len(versions)} in the required versions: {shown}")


def device(settings: Settings) -> Check:
    """What torch trains on, proven by a product of two matrices there."""
    import torch

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    ones = torch.ones(64, 64, device=kind)
    if (ones @ ones).sum().item() != 64.0**3:
        return Check("device", "failure", f"torch computes a wrong matrix product on {kind}", _REINSTALL)
    if kind == "cuda":
        names = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
        free = torch.cuda.mem_get_info()[0] / GIB
        found = f"{torch.cuda.device_count()} CUDA: {', '.join(sorted(names))}; {free:.1f} GiB free on the first"
        return Check("device", "ok", found)
    found = f"CPU, {os.cpu_count()} cores"
    if shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists():
        found = f"{found}; there is an NVIDIA driver, but torch {torch.__version__} cannot use it"
        return Check("device", "warning", found, "Install a CUDA build of torch that the driver supports")
    unused = f"; torch {torch.__version__} can use a GPU, but there is none" if torch.version.cuda else ""
    return Check("device", "ok", found + unused)


def compiled(settings: Settings) -> Check:
    """The compiled training path, which is faster than torch on a CPU and gives the same numbers."""
    from sweeper.models.compiled import StaleBuildError, libraries

    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    compiler = next((found for name in names if name and (found := shutil.which(name))), None)
    fix = "Install again: pip install -c constraints.txt -e ."
    try:
        built = list(libraries())
    except StaleBuildError as error:
        return Check("compiled", "failure", str(error), fix)
    if built:
        from sweeper.models.arithmetic import arithmetic_of

        found = f"{built[0]}, values in {arithmetic_of('cpu')}; compiler: {compiler or 'none (not needed)'}"
        return Check("compiled", "ok", found)
    found = f"the compiled training path is not built; compiler: {compiler or 'none'}. Sweeps run, but slower on a CPU"
    return Check("compiled", "warning", found, fix if compiler else f"Install a C++ compiler, such as g++. {fix}")


def shared_memory(settings: Settings) -> Check:
    """The size of /dev/shm, where Ray keeps the data of a sweep for the workers of a node."""
    folder = Path("/dev/shm")  # noqa: S108 - looked at, not written
    if not folder.is_dir():
        return Check("shared memory", "ok", "this system has no /dev/shm: Ray uses files instead")
    size = shutil.disk_usage(folder)
    found = f"{folder} has {_gib(size.total)}, {_gib(size.free)} of it free"
    if size.free < SHARED_MEMORY:
        fix = "Give it 1 GiB or more: `docker run --shm-size=2g`, or shm_size in the compose file"
        return Check("shared memory", "warning", f"{found}: Ray will use slow files", fix)
    return Check("shared memory", "ok", found)


def token(settings: Settings) -> Check:
    """The token that opens Ray: whoever reads it can run code as us."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        found = f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}: whoever reaches Ray's ports can run code"
        return Check("ray token", "warning", found, "Set RAY_AUTH_MODE=token on every node and here")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Check("ray token", "ok", "in RAY_AUTH_TOKEN")
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))
    if not file.exists():
        if settings.ray_address is None:
            return Check("ray token", "ok", "none yet: Ray creates one when it starts here")
        fix = "Set RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN on every node and here"
        return Check("ray token", "warning", f"none in RAY_AUTH_TOKEN and none in {file}", fix)
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        return Check("ray token", "warning", f"{file} has mode {mode:04o}: others can read it", f"chmod 600 {file}")
    return Check("ray token", "ok", f"{file}, mode {mode:04o}")


def ray(settings: Settings) -> Check:
    """A worker brought up by Ray, on the cluster or in a Ray started for it here."""
    from sweeper.training.ray_probe import probe_ray

    began = time.monotonic()
    there = probe_ray(settings.ray_address)
    where = f"reached at {settings.ray_address}" if settings.ray_address else "started here"
    found = f"{where}: {there.nodes} node{'' if there.nodes == 1 else 's'}, {there.gpus} GPUs, {there.cpus} cores"
    if not there.worker:
        fix = "Wait until a worker is free, or add a node with cores or GPUs (`ray start --address=HEAD:6379`)"
        return Check("ray", "warning" if there.cpus or there.gpus else "failure", f"{found}; {there.trouble}", fix)
    return Check("ray", "ok", f"{found}; a {there.worker} worker started, {time.monotonic() - began:.1f} s in total")


def home(settings: Settings) -> Check:
    """The folder that everything of this machine goes into."""
    return Check("home", "ok", f"{settings.ensure_home()} can be written")


def disk(settings: Settings) -> Check:
    """Free space where the home folder is."""
    folder = next(path for path in (settings.home, *settings.home.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    state: State = "failure" if free < DISK_NONE else "warning" if free < DISK_LITTLE else "ok"
    fix = "" if state == "ok" else "Free some space, or set SWEEPER_HOME to a folder on a larger disk"
    return Check("disk", state, f"{_gib(free)} free in {folder}", fix)


def ledger(settings: Settings) -> Check:
    """A write and a read in the ledger, and the version of its schema."""
    from sweeper.ledger.probe import probe_ledger

    there = probe_ledger(settings.database_url, settings.home)
    found = f"{there.where}, version {there.version}: "
    found += f"a write took {there.write_seconds * 1000:.1f} ms, a read {there.read_seconds * 1000:.1f} ms"
    if there.write_seconds > SLOW_WRITE:
        fix = "Put SWEEPER_HOME on a local disk, or use a PostgreSQL server nearer to this machine"
        return Check("ledger", "warning", f"{found}; sweeps wait for every write", fix)
    return Check("ledger", "ok", found)


def clock(settings: Settings) -> Check:
    """The clock of the ledger's server against ours."""
    from sweeper.ledger.probe import clock_skew

    try:
        skew = clock_skew(settings.database_url, settings.home)
    except SweeperError:
        return Check("clock", "warning", "not compared: the ledger cannot be used", "Fix the ledger first")
    if skew is None:
        return Check("clock", "ok", "the ledger is a file on this machine: there is only one clock")
    found = f"the ledger's server is {abs(skew):.2f} s {'ahead of' if skew > 0 else 'behind'} this machine"
    if abs(skew) > SKEW:
        return Check(
            "clock", "warning", found, "Synchronise both clocks with a time server (chrony, systemd-timesyncd)"
        )
    return Check("clock", "ok", found)


def mlflow(settings: Settings) -> Check:
    """A run written to MLflow, read back and deleted."""
    from sweeper.tracking.store import probe

    try:
        there = probe(settings.mlflow_tracking_uri, settings.home)
    except Exception as error:  # MLflow raises whatever its parts raise
        where = settings.mlflow_tracking_uri or "MLflow's own file"
        raise SweeperError(f"{where} cannot be used: {_reason(error)}") from error
    took = f"a run written, read back and deleted in {there.seconds * 1000:.0f} ms"
    if there.server is None:
        return Check("mlflow", "ok", f"{there.uri}, version {there.client}: {took}")
    found = f"{there.uri}, version {there.server}: {took}"
    if there.server.split(".")[:2] != there.client.split(".")[:2]:
        fix = "Use the same version of MLflow on the server and here, or try whether the two work together"
        return Check("mlflow", "warning", f"{found}; here MLflow is {there.client}", fix)
    return Check("mlflow", "ok", found)


def server(settings: Settings) -> Check:
    """The sweep server that the verbs go to, and whether it takes our token."""
    from sweeper import __version__
    from sweeper.places.http import LOOPBACK, Server

    assert settings.server is not None
    began, there = time.monotonic(), Server(settings.server, settings.token)
    info = there.get("/info")
    took = f"answered in {(time.monotonic() - began) * 1000:.0f} ms"
    found = f"{there.url}, version {info['version']}, {took}: you are {info['user']} ({info['role']})"
    if info["version"] != __version__:
        fix = "Install the server's version here, or try whether the two work together"
        return Check("server", "warning", f"{found}; here it is version {__version__}", fix)
    if there.url.startswith("http://") and not there.url.startswith(tuple(f"http://{host}" for host in LOOPBACK)):
        fix = "Use an https:// address, or a private network"
        return Check("server", "warning", f"{found}; without https the token can be read on the network", fix)
    return Check("server", "ok", found)


CHECKS: tuple[tuple[Callable[[Settings], Check], str], ...] = (
    (python, _REINSTALL),
    (libraries, _REINSTALL),
    (device, "Install a build of torch for this machine: see pytorch.org"),
    (compiled, _REINSTALL),
    (shared_memory, "Mount /dev/shm"),
    (token, "Make the token file readable only by you, or set RAY_AUTH_TOKEN"),
    (
        ray,
        "Check RAY_ADDRESS, the head node and the token; without RAY_ADDRESS Ray starts here. Or use --workers inline",
    ),
    (home, "Make SWEEPER_HOME a folder that can be written"),
    (disk, "Set SWEEPER_HOME to a folder that can be read"),
    (ledger, "Check SWEEPER_DATABASE_URL and the server; without it the ledger is a file in SWEEPER_HOME"),
    (clock, "Check SWEEPER_DATABASE_URL and the server"),
    (mlflow, "Check MLFLOW_TRACKING_URI and the server; without it MLflow keeps a file in SWEEPER_HOME"),
)


def _bounded(look: Callable[[Settings], Check], fix: str, settings: Settings) -> Check:
    """One check in a thread of its own, which is abandoned when it does not end."""
    name, limit = look.__name__.replace("_", " "), RAY_DEADLINE if look is ray else DEADLINE
    done: list[Check] = []

    def run() -> None:
        try:
            done.append(look(settings))
        except SpecError as error:
            done.append(Check(name, "failure", f"{error.key}: {error.problem}", error.remedy or fix))
        except BaseException as error:
            done.append(Check(name, "failure", _reason(error), fix))

    thread = threading.Thread(target=run, name=f"doctor-{name}", daemon=True)
    thread.start()
    thread.join(limit)
    check = done[0] if done else Check(name, "failure", f"no answer within {limit:.0f} s", fix)
    return Check(check.name, check.state, _PASSWORD.sub("://***@", check.found), check.fix)


def _reason(error: BaseException) -> str:
    """Our own words, or what a library raised; its cause when that was the system, such as a refused connection."""
    if isinstance(error, SweeperError):
        return str(error)
    link: BaseException | None = error
    while link is not None:
        error = link if isinstance(link, OSError) and link.errno else error
        link = link.__cause__ or link.__context__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
