"""A registered winner behind ``mlflow models serve``: predictions from raw rows over HTTP, as CSV and as JSON."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.faults import INLINE, Site, wait_until
from tests.ports import own_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STARTS_WITHIN = 120.0


def flowers() -> pd.DataFrame:
    """Numbers with holes, texts with commas and holes, a flag, a constant."""
    draw = random.Random(0)
    rows = [
        {
            "length": None if draw.random() < 0.1 else round(draw.gauss(3 + number % 2, 0.4), 2),
            "petals": draw.randint(3, 8),
            "place": draw.choice(["N", "S, far", None]),
            "wet": draw.random() < 0.5,
            "planet": "earth",
            "kind": "ab"[number % 2],
        }
        for number in range(120)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A sweep on the table whose winner is registered."""
    folder = tmp_path_factory.mktemp("serving")
    flowers().to_csv(folder / "flowers.csv", index=False)
    sweep = {
        "name": "flowers",
        "dataset": {"path": str(folder / "flowers.csv"), "target": "kind"},
        "space": "mlp",
        "training": {"epochs": 3},
        "search": {"trials": 4},
        "tracking": {"register_model": "flowers"},
    }
    (folder / "sweep.json").write_text(json.dumps(sweep))
    site = Site(folder / "home")
    site.answer("run", str(folder / "sweep.json"), *INLINE)
    yield site
    site.close()


@pytest.fixture(scope="module")
def wanted(site: Site) -> pd.DataFrame:
    """What the exported script, which knows nothing of MLflow, predicts for the rows."""
    folder = site.home.parent / "exported"
    site.answer("export", "flowers", "--model", str(folder))
    flowers().drop(columns="kind").to_csv(folder / "rows.csv", index=False)
    command = [sys.executable, "-I", str(folder / "predict.py"), str(folder / "rows.csv")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return pd.read_csv(io.StringIO(done.stdout))[["probability of a", "probability of b"]]


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    """The champion, served."""
    port = own_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/flowers@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it starts uvicorn by name
    env = site.environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{site.home / 'mlflow.db'}", "PATH": programs}
    log = site.home / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or answers(address), STARTS_WITHIN)
        assert process.poll() is None, log.read_text()[-3000:]
        yield f"{address}/invocations"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=2):
            return True
    except OSError:
        return False


def ask(url: str, body: str, kind: str) -> pd.DataFrame:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return pd.DataFrame(json.load(answer)["predictions"])


def test_rows_as_csv(url: str, wanted: pd.DataFrame) -> None:
    rows = flowers().drop(columns="kind")
    made = ask(url, rows.to_csv(index=False), "text/csv")
    assert list(made.columns) == ["a", "b"]
    np.testing.assert_allclose(made.to_numpy(), wanted.to_numpy(), atol=1e-5)
    shuffled = rows[["wet", "place", "petals", "length"]]  # another order, and no constant column
    np.testing.assert_allclose(ask(url, shuffled.to_csv(index=False), "text/csv"), wanted.to_numpy(), atol=1e-5)


@pytest.mark.parametrize("orient", ["split", "records"])
def test_rows_as_json(url: str, wanted: pd.DataFrame, orient: Any) -> None:
    rows = flowers().drop(columns=["kind", "planet"])
    body = json.dumps({f"dataframe_{orient}": json.loads(rows.to_json(orient=orient))})
    np.testing.assert_allclose(ask(url, body, "application/json").to_numpy(), wanted.to_numpy(), atol=1e-5)


def test_a_single_row_is_enough(url: str, wanted: pd.DataFrame) -> None:
    for number in (0, 1, 7):
        row = flowers().drop(columns="kind").iloc[[number]]
        made = ask(url, row.to_csv(index=False), "text/csv")
        np.testing.assert_allclose(made.to_numpy(), wanted.to_numpy()[[number]], atol=1e-5)


def test_a_request_without_a_needed_column_is_refused(url: str) -> None:
    rows = flowers().drop(columns=["kind", "length"])
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(url, rows.to_csv(index=False), "text/csv")
    assert refused.value.code == 400
    assert "length" in refused.value.read().decode()
