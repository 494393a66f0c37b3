"""`python -m benchmarks.quality`: what was learnt of a simulated site whose truth is known.

Trains on logged clicks, which position and chance have bent, and ranks the test lists against clicks drawn anew from
the true interest at every position. Works in a temporary folder. Ends with the intervals' own check, which
`python -m benchmarks.intervals` makes alone.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np

from benchmarks import intervals
from benchmarks.report import Result, command
from benchmarks.unbiased_test import UnbiasedTest, read_truth, unbiased_test
from features.arrays import Float64
from features.definitions.aggregates import CLICK, ITEM, Count
from features.offline.reader import LogIndex
from features.tables.load import load_log
from pipelines.data_options import read_options
from pipelines.simulate import simulate
from pipelines.train import train
from recsys.config import load_config
from recsys.evaluation.evaluate import MethodComparison, evaluate
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import versions

SIMULATED, DRAWN = 11, 12
LIFTS = (
    MethodComparison("truth", "popularity"),
    MethodComparison("ranker", "popularity"),
    MethodComparison("truth", "ranker"),
)


def measure(quick: bool) -> list[Result]:
    """How much of the way from popularity to the truth the learnt ranker goes, on a simulated site."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    users, items, impressions = (1_000, 600, 8_000) if quick else (2_000, 1_000, 20_000)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        site = Path(folder) / "site"
        simulate(site, seed=SIMULATED, users=users, items=items, impressions=impressions)
        config = load_config()
        report = train(site, config, name="simulated")
        ranking_model = versions.load(report.models.ranker.uri).ranking_model
        log, _ = load_log(site, read_options(config))
        test = unbiased_test(log, read_truth(site), seed=DRAWN, slices=config.slices)
        index = LogIndex(log)
        requests = test.impressions.requests
        learnt = OfflineScorer(ranking_model, index, ranking_model.texts(log.catalog)).scores(requests)
        clicks = index.reader(requests).count(Count(CLICK, ITEM))
        return [*_results(test, learnt, clicks, log.users), *intervals.measure(quick)]


def _results(test: UnbiasedTest, learnt: Float64, clicks: np.ndarray, users: np.ndarray) -> list[Result]:
    methods = {"popularity": test.popularity, "lexical": test.lexical, "ranker": learnt, "truth": test.truth}
    found = evaluate(
        methods,
        test.impressions,
        users,
        item_clicks_before=clicks,
        user_clicks_before=test.user_clicks_before,
        settings=load_config().evaluation,
        seed=0,
        lifts=LIFTS,
    )
    results = []
    for name, part in (("test", found.test), ("cold_items", found.cold_items)):
        for method, metrics in part.methods.items():
            one = metrics["ndcg_at_10"]
            results.append(Result(f"{name}_ndcg_at_10_{method}", one.mean, "", low=one.low, high=one.high))
    gap, closed = found.lifts["truth_over_popularity"].mean, found.lifts["ranker_over_popularity"].mean
    results.append(Result("gap_closed", closed, "of the nDCG@10 from popularity to truth", gap, closed / gap))
    return results


if __name__ == "__main__":
    command(measure)
