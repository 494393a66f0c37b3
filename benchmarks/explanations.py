"""`python -m benchmarks.explanations`: TreeSHAP values of 20 rows, beside LightGBM's `pred_contrib`.

300 trees of 63 leaves on 96 columns of random rows, two of them categories, a tenth of the values missing. CPU time of
the calling thread, the median of 20, both in turn on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import lightgbm
import numpy as np

from benchmarks.report import Result, command
from recsys.ranker.tree_shap import TreeShap

SEED, ROWS, ROUNDS = 0, 20, 20
TREES, LEAVES, COLUMNS, TRAINING_ROWS = 300, 63, 96, 8000


def measure(quick: bool) -> list[Result]:
    """CPU time of explaining 20 rows, and the largest difference from LightGBM."""
    booster, matrix = _booster(TREES // 10 if quick else TREES)
    rows, shap = matrix[:ROWS].astype(np.float32), TreeShap(booster)
    expected = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))[:, :-1]
    difference = float(np.abs(shap.contributions(rows, threads=1) - expected).max())
    found = [
        (
            _milliseconds(lambda: shap.contributions(rows, threads=1)),
            _milliseconds(lambda: booster.predict(rows, pred_contrib=True, num_threads=1)),
        )
        for _ in range(ROUNDS)
    ]
    fast, lightgbms = (float(value) for value in np.median(found, axis=0))
    what = f"ms of CPU for {ROWS} rows, {booster.num_trees()} trees x {LEAVES} leaves, beside pred_contrib"
    return [
        Result("tree_shap", fast, what, lightgbms, fast / lightgbms),
        Result("tree_shap_difference", difference, "largest difference from pred_contrib"),
    ]


def _booster(trees: int) -> tuple[lightgbm.Booster, np.ndarray]:
    random = np.random.default_rng(SEED)
    matrix = random.normal(size=(TRAINING_ROWS, COLUMNS))
    matrix[:, [3, 90]] = random.integers(0, 70, (TRAINING_ROWS, 2))
    target = matrix[:, :10].sum(axis=1) + matrix[:, 0] * matrix[:, 1] + 3 * (matrix[:, 3] % 3 == 0)
    target += random.normal(size=TRAINING_ROWS)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    parameters = {"objective": "regression", "num_leaves": LEAVES, "feature_fraction": 0.5, "seed": SEED}
    parameters |= {"num_threads": 1, "verbosity": -1}
    data = lightgbm.Dataset(matrix, label=target, categorical_feature=[3, 90], params={"verbosity": -1})
    booster = lightgbm.train(parameters, data, num_boost_round=trees)
    return lightgbm.Booster(model_str=booster.model_to_string()), matrix


def _milliseconds(run: Callable[[], object]) -> float:
    started = time.thread_time()
    run()
    return 1000 * (time.thread_time() - started)


if __name__ == "__main__":
    command(measure)
