"""Another library on one table, in the interpreter that has it; prints its score on the test rows as JSON.

python -m benchmarks.quality_peers METHOD TRAIN.csv TEST.csv classification|regression SEED
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd

SCIKIT = "HistGradientBoosting"
METHODS = (SCIKIT, "XGBoost", "CatBoost", "RealMLP-TD")


def model_of(method: str, classifies: bool, texts: list[str], seed: int) -> Any:
    """The library's model as it comes, on one core."""
    if method == SCIKIT:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        return (HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor)(random_state=seed)
    if method == "XGBoost":
        import xgboost

        kind = xgboost.XGBClassifier if classifies else xgboost.XGBRegressor
        return kind(n_jobs=1, random_state=seed, enable_categorical=True)
    if method == "CatBoost":
        import catboost

        kind = catboost.CatBoostClassifier if classifies else catboost.CatBoostRegressor
        return kind(thread_count=1, random_seed=seed, cat_features=texts, verbose=False, allow_writing_files=False)
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    kind = RealMLP_TD_Classifier if classifies else RealMLP_TD_Regressor
    return kind(n_threads=1, random_state=seed, device="cpu")


def main() -> None:
    """Fit on all rows that are no test rows, and judge: accuracy, or the root mean squared error.

    Run it with OMP_NUM_THREADS=1, by which scikit-learn takes one core.
    """
    method, train, test, task, seed = sys.argv[1:]
    classifies = task == "classification"
    rows, judged = pd.read_csv(train), pd.read_csv(test)
    texts = [name for name in rows.columns[:-1] if not pd.api.types.is_numeric_dtype(rows[name])]
    for name in texts:
        kinds = pd.CategoricalDtype(sorted(rows[name].astype(str).unique()))
        for frame in (rows, judged):
            known = frame[name].astype(str).astype(kinds)
            frame[name] = known.astype(object).where(known.notna(), "") if method == "CatBoost" else known
    y, truth = rows.pop("target"), judged.pop("target")
    if classifies:
        labels = {label: code for code, label in enumerate(sorted(y.astype(str).unique()))}
        y, truth = y.astype(str).map(labels), truth.astype(str).map(labels)
    began = time.perf_counter()
    model = model_of(method, classifies, texts, int(seed)).fit(rows, y)
    made = np.asarray(model.predict(judged)).reshape(-1)
    seconds = time.perf_counter() - began
    score = np.mean(made == truth) if classifies else np.sqrt(np.mean((made - truth) ** 2))
    print(json.dumps({"score": float(score), "seconds": seconds}))


if __name__ == "__main__":
    main()
