"""What every sweep is compared with: a constant, a linear model and untuned boosted trees on the same rows.

They are trained once, in a thread beside the trials, each on one core, and kept in the sweep's folder.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.data.dataset import Dataset

FILE = "baselines.npz"  # in the sweep's folder
METHODS = ("constant", "linear", "tree")
SEED = 0
MAX_CATEGORIES = 255  # that scikit-learn's histograms of a category can hold
TINY = 1e-15  # the smallest probability that has a logarithm here
LINEAR_STEPS = 300
TREES = 100  # of each class; as many as scikit-learn grows untuned
PROBED_TREES, PROBED_CELLS = 4, 1_000_000  # what their time is estimated from

Features = Callable[[], "pd.DataFrame"]
"""Reads the table's feature columns, all rows: numbers (NaN is missing), booleans, texts as pandas categories."""

Elsewhere = Callable[["Dataset", Features], "tuple[Baseline, ...] | None"]
"""Trains them in another process (None: it did not)."""

_ONE_AT_A_TIME = threading.Lock()  # of several sweeps in one process


@dataclass(frozen=True, eq=False)
class Baseline:
    """One simple model. ``validation (v, C)`` and ``test (t, C)`` are float32 logits or standardised values.

    Both are empty where ``problem`` says why it could not be trained.
    """

    method: str
    seconds: float
    validation: np.ndarray
    test: np.ndarray
    problem: str = ""


class BaselineWork:
    """The baselines of one sweep while they are trained. Nothing here ever raises."""

    def __init__(
        self, dataset: Dataset, folder: Path, features: Features, elsewhere: Elsewhere = lambda dataset, features: None
    ) -> None:
        self._dataset, self._file, self._features, self._elsewhere = dataset, folder / FILE, features, elsewhere
        self._thread: threading.Thread | None = None
        self._found: tuple[Baseline, ...] = ()

    def start(self) -> None:
        """Train in the background, unless that is done or going on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="sweeper-baselines", daemon=True)
            self._thread.start()

    def result(self, patience: float) -> tuple[Baseline, ...]:
        """The baselines, those that are trained within ``patience`` seconds."""
        self.start()
        assert self._thread is not None
        self._thread.join(patience)
        found = self._found
        late = (_failed(method, f"not trained within {patience:g} s of the sweep's end") for method in METHODS)
        return (*found, *(one for one in list(late)[len(found) :]))

    def _work(self) -> None:
        kept = read(self._file, self._dataset.fingerprint)
        if kept is not None:
            self._found = kept
            return
        with _ONE_AT_A_TIME:
            self._found = self._elsewhere(self._dataset, self._features) or ()
            for method in METHODS[len(self._found) :]:
                self._found = (*self._found, train(method, self._dataset, self._features))
        write(self._file, self._dataset.fingerprint, self._found)


def train(method: str, dataset: Dataset, features: Features) -> Baseline:
    """Fit one of METHODS on the training rows and predict the validation and test rows, on one core.

    The trees get the columns as they are read, the others what the networks get. With folds there is a model for each,
    as the sweep's winner has a network for each: a validation row is predicted by the model of its fold, a test row by
    the mean of them all.
    """
    from threadpoolctl import threadpool_limits

    try:
        table = features() if method == "tree" else None
        began = time.perf_counter()
        with threadpool_limits(limits=1):
            made = [_PREDICTED[method](part, table) for part in dataset.folds or (dataset,)]
        validation = np.concatenate([held for held, _ in made])
        test = np.mean([outputs for _, outputs in made], axis=0)
    except Exception as error:  # whatever scikit-learn raises: a baseline is no reason to lose a sweep
        return _failed(method, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return Baseline(method, time.perf_counter() - began, validation, test)


def seconds_of_tree(dataset: Dataset, features: Features) -> float:
    """About how long the trees take, of all the baselines by far the longest, from the first few of them."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    kind = HistGradientBoostingClassifier if _classes(dataset) else HistGradientBoostingRegressor
    part = (dataset.folds or (dataset,))[0]
    table = features()
    rows = part.train_rows[: max(1000, PROBED_CELLS // table.shape[1])]
    columns, y = tree_columns(table, part.train_rows).iloc[rows], part.y_train[: len(rows)]
    taken = []
    with threadpool_limits(limits=1):
        for trees in (1, 1, PROBED_TREES):  # the first time it is imported
            began = time.perf_counter()
            kind(random_state=SEED, max_iter=trees, early_stopping=False).fit(columns, y)
            taken.append(time.perf_counter() - began)
    each = max(0.0, taken[2] - taken[1]) / (PROBED_TREES - 1)
    share = len(part.train_rows) / len(columns)
    return (taken[1] + (TREES - 1) * each) * share * max(1, len(dataset.folds))


def write(file: Path, fingerprint: str, baselines: tuple[Baseline, ...]) -> None:
    """Keep the baselines for a controller that takes the sweep up again; where that fails they are trained again."""
    arrays: dict[str, Any] = {"fingerprint": np.array(fingerprint)}
    for one in baselines:
        arrays |= {f"{one.method}.validation": one.validation, f"{one.method}.test": one.test}
        arrays |= {f"{one.method}.seconds": np.array(one.seconds), f"{one.method}.problem": np.array(one.problem)}
    part = file.with_name(f".{file.name}.{threading.get_native_id()}.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        np.savez(part, **arrays)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)


def read(file: Path, fingerprint: str) -> tuple[Baseline, ...] | None:
    """What ``write`` kept of the same data; None: nothing."""
    try:
        with np.load(file) as arrays:
            if str(arrays["fingerprint"]) != fingerprint:
                return None
            return tuple(
                Baseline(
                    method,
                    float(arrays[f"{method}.seconds"]),
                    arrays[f"{method}.validation"],
                    arrays[f"{method}.test"],
                    str(arrays[f"{method}.problem"]),
                )
                for method in METHODS
            )
    except Exception:  # gone, cut short, or not ours: they are trained again
        return None


def _failed(method: str, problem: str) -> Baseline:
    empty = np.empty((0, 0), dtype=np.float32)
    return Baseline(method, 0.0, empty, empty, problem)


def _constant(dataset: Dataset, _: Any) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    x = (dataset.x_train, dataset.x_val, dataset.x_test)
    return _fitted(dataset, DummyClassifier() if _classes(dataset) else DummyRegressor(), *x)


def _linear(dataset: Dataset, _: Any) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    # not converged, it is a baseline all the same; for good, since filters cannot be put back in a thread
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    x = (dataset.x_train, dataset.x_val, dataset.x_test)
    return _fitted(dataset, LogisticRegression(max_iter=LINEAR_STEPS) if _classes(dataset) else Ridge(), *x)


def _tree(dataset: Dataset, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if _classes(dataset) else HistGradientBoostingRegressor
    columns = tree_columns(table, dataset.train_rows)
    parts = [columns.iloc[rows] for rows in (dataset.train_rows, dataset.val_rows, dataset.test_rows)]
    return _fitted(dataset, kind(max_iter=TREES, random_state=SEED), *parts)


_PREDICTED: dict[str, Callable[[Dataset, Any], tuple[np.ndarray, np.ndarray]]] = {
    "constant": _constant,
    "linear": _linear,
    "tree": _tree,
}


def tree_columns(table: pd.DataFrame, train: np.ndarray) -> pd.DataFrame:
    """The columns as scikit-learn's trees take them by themselves: NaN is missing, texts are categories.

    A text that does not occur in the rows ``train`` is missing. A column with more texts than the trees can take as
    categories becomes numbers, in the order of the alphabet.
    """
    import pandas as pd

    made: dict[Any, Any] = {}
    for name, column in table.items():
        if not isinstance(column.dtype, pd.CategoricalDtype):
            made[name] = column.astype("float64")
            continue
        known = column.iloc[train].cat.remove_unused_categories().cat.categories.sort_values()
        text = column.cat.set_categories(known)
        codes = text.cat.codes
        made[name] = text if len(known) <= MAX_CATEGORIES else codes.astype("float64").where(codes >= 0)
    return pd.DataFrame(made)


def _classes(dataset: Dataset) -> bool:
    return dataset.task == "classification"


def _fitted(dataset: Dataset, model: Any, x_train: Any, x_val: Any, x_test: Any) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of a scikit-learn model on validation and test rows: log-probabilities of all classes, or values."""
    model.fit(x_train, dataset.y_train, sample_weight=dataset.w_train)
    if not _classes(dataset):
        validation, test = (model.predict(x).reshape(-1, 1).astype(np.float32) for x in (x_val, x_test))
        return validation, test
    found = []
    for x in (x_val, x_test):
        p = np.full((len(x), dataset.n_outputs), TINY)
        p[:, model.classes_] = np.clip(model.predict_proba(x), TINY, None)
        found.append(np.log(p).astype(np.float32))
    return found[0], found[1]
