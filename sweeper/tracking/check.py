"""Whether a tracking store will refuse every write: checked before a sweep trains, without importing MLflow."""

from __future__ import annotations

import base64
import os
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from sweeper.errors import SpecError
from sweeper.tracking.database import sqlite_path
from sweeper.tracking.store import is_server, resolve_uri

VARIABLE = "MLFLOW_TRACKING_URI"
ALLOW_FILES = "MLFLOW_ALLOW_FILE_STORE"  # with it MLflow takes a folder of files after all
DATABASES = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE or the address of an MLflow server"
ANSWER_SECONDS = 3.0
_SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def check_tracking(uri: str | None, home: Path, experiment: str = "/") -> None:
    """Refuse a store that can never be written. One that does not answer now is not refused: it may come back.

    Raises:
        SpecError: the server refuses the credentials or is no MLflow server, MLflow refuses folders of files, the file
            cannot be a database, the scheme is unknown, or Databricks cannot have an ``experiment`` of this name.
    """
    resolved = resolve_uri(uri, home)
    scheme = "databricks" if resolved == "databricks" else urlsplit(resolved).scheme.split("+")[0]
    if scheme == "databricks" and not experiment.startswith("/"):
        problem = f"{experiment!r} is no experiment of Databricks, where it has an absolute path"
        remedy = "Write experiment: /Users/YOUR-NAME/EXPERIMENT"
        raise SpecError(problem, key="tracking.experiment", remedy=remedy)
    if is_server(resolved):
        _check_server(resolved)
    elif (path := sqlite_path(resolved)) is not None:
        _check_file(path.absolute())
    elif scheme in ("", "file") and os.environ.get(ALLOW_FILES, "").lower() not in ("true", "1"):
        problem = f"{resolved!r} is a folder of files, which MLflow 3 no longer writes"
        raise SpecError(
            problem, key=VARIABLE, remedy=f"Use {DATABASES}; `mlflow migrate-filestore` takes old runs over"
        )
    elif scheme not in ("", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc"):
        raise SpecError(f"{scheme!r} is no kind of tracking store", key=VARIABLE, remedy=f"Use {DATABASES}")


def _check_server(uri: str) -> None:
    request = urllib.request.Request(uri.rstrip("/") + _SEARCH, headers=_credentials())  # noqa: S310 - http or https
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError):
        return  # it does not answer now: writing is retried
    if status in (401, 403):
        problem = f"the MLflow server refuses us (HTTP {status})"
        remedy = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        raise SpecError(problem, key=VARIABLE, remedy=remedy)
    if status in (404, 405):
        problem = f"what answers at {_shown(uri)} is not an MLflow server (HTTP {status})"
        raise SpecError(problem, key=VARIABLE, remedy="Give the address under which the MLflow page opens")


def _credentials() -> dict[str, str]:
    """The header that MLflow's client would send, from the variables that it reads."""
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}


def _check_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(
            sqlite3.connect(path.as_uri() + "?mode=rw" if path.exists() else ":memory:", uri=True)
        ) as database:
            database.execute("PRAGMA schema_version")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(None, "it cannot be written")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return  # by another program, for now
        raise _no_database(path, str(error)) from error
    except sqlite3.DatabaseError as error:
        raise _no_database(path, str(error)) from error
    except OSError as error:
        raise _no_database(path, error.strerror or str(error)) from error


def _no_database(path: Path, reason: str) -> SpecError:
    problem = f"{str(path)!r} cannot be MLflow's database ({reason})"
    return SpecError(problem, key=VARIABLE, remedy="Name another file: sqlite:////FOLDER/mlflow.db")


def _shown(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
