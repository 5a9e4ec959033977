"""A large sweep written to a SQLite ledger in seconds: trials and reports are made up inside the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sweeper.ledger.opening import open_ledger
from sweeper.spec.parse import load_spec

SPACE = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "adam"]},
    "momentum": {"float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
    "weight_decay": {"float": [1e-6, 1e-2], "log": True},
    "activation": {"choice": ["relu", "tanh"]},
    "hidden_layers": {"choice": [[32], [64, 64]]},
}
# u, v, w: numbers from 0 to 1 that look random; z: how far the learning rate is from the best one, in decades
_MADE = """
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :trials),
    r AS (SELECT i, (i * 69621 % 99989) / 99989.0 AS u, (i * 40503 % 65521) / 65521.0 AS v,
          (i * 69069 % 99991) / 99991.0 AS w FROM n),
    t AS (SELECT i, u, v, w, CASE i % 3 WHEN 0 THEN 'sgd' WHEN 1 THEN 'momentum' ELSE 'adam' END AS optimizer,
          abs(3 * u - 2) AS z FROM r)
"""
_LOSS = "(0.05 + 0.08 * z * z + 0.03 * v + CASE optimizer WHEN 'sgd' THEN 0.05 ELSE 0.0 END)"
_TRIALS = f"""
    INSERT OR REPLACE INTO trials
        (sweep, number, state, reason, params, seed, attempt, value, metrics, epochs, seconds, started_at, ended_at)
    {_MADE}
    SELECT :sweep, i, CASE WHEN i % 50 = 7 THEN 'failed' ELSE 'complete' END, '',
        '{{"learning_rate":' || pow(10.0, 3 * u - 4) || ',"optimizer":"' || optimizer
            || CASE optimizer WHEN 'momentum' THEN '","momentum":' || (0.5 + 0.49 * w) || ',' ELSE '",' END
            || '"weight_decay":' || pow(10.0, 4 * v - 6) || ',"activation":"'
            || CASE i % 2 WHEN 0 THEN 'relu' ELSE 'tanh' END || '","hidden_layers":'
            || CASE i % 5 WHEN 0 THEN '[32]}}' ELSE '[64,64]}}' END,
        i, 1, CASE WHEN i % 50 = 7 THEN NULL ELSE {_LOSS} END, '{{"val_loss":' || {_LOSS} || '}}', :epochs, 0.5,
        1700000000.0 + i / 100.0, 1700000001.0 + i / 100.0
    FROM t
"""
_REPORTS = f"""
    INSERT INTO reports (sweep, number, epoch, metrics)
    {_MADE},
    e(epoch) AS (SELECT 0 UNION ALL SELECT epoch + 1 FROM e WHERE epoch + 1 < :epochs),
    l AS (SELECT i, {_LOSS} AS loss FROM t)
    SELECT :sweep, i, epoch, '{{"train_loss":' || (loss + 1.0 / (1 + epoch)) || ',"val_loss":'
        || (loss + 2.0 * (:epochs - 1 - epoch) / (:epochs * (2.0 + epoch))) || '}}'
    FROM l, e
"""


def large_sweep(home: Path, name: str, trials: int, epochs: int, owner: str = "") -> str:
    """A paused sweep whose ``trials`` have ended, every fiftieth failed, with ``epochs`` reports each.

    Two more trials wait. No service may run on the ledger: it would begin to train.
    """
    home.mkdir(parents=True, exist_ok=True)
    file = {
        "name": name,
        "dataset": {"name": "digits"},
        "space": SPACE,
        "training": {"epochs": epochs},
        "search": {"trials": trials + 2, "sampler": "random"},
    }
    with closing(open_ledger(None, home)) as ledger:
        sweep = ledger.create_sweep(name, load_spec(file).to_json(), trials + 2, owner=owner).sweep
    named = {"sweep": sweep, "trials": trials, "epochs": epochs}
    with closing(sqlite3.connect(home / "ledger.db", timeout=30)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_TRIALS, named)
        database.execute(_REPORTS, named)
        database.execute("UPDATE sweeps SET state = 'paused', started_at = 1700000000 WHERE sweep = ?", (sweep,))
    return sweep
