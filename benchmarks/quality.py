"""`python -m benchmarks.quality`: what was learnt of a simulated site whose truth is known.

Trains on logged clicks, which position and chance have bent, and ranks the test lists against clicks drawn anew from
the true interest at every position. Reads and writes a temporary folder.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np

from benchmarks.report import Result, command
from features.log import Float64, Impressions
from features.offline import LogIndex
from features.reads import CLICK, ITEM, Count
from features.tables import load_log
from pipelines.reading import read_options
from pipelines.simulate import simulate
from pipelines.simulated_truth import read_truth, redraw_clicks
from pipelines.train import train
from recsys.bootstrap import mean_interval
from recsys.config import load_config
from recsys.lexical import lexical_column
from recsys.metrics import list_metrics
from recsys.over_log import scores_over_log
from recsys.registry import versions
from recsys.slicing import slice_impressions


def measure(quick: bool) -> list[Result]:
    """How much of the way from popularity to the truth the learnt ranker goes, on a simulated site."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    size = {"users": 1_000, "items": 600, "impressions": 8_000} if quick else {}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        site = Path(folder) / "site"
        simulate(site, seed=11, **size)
        config = load_config()
        report = train(site, config, name="simulated")
        unit = versions.load(report.versions["ranker"].uri).unit
        log, _ = load_log(site, read_options(config))
        test = log.impressions.take(slice_impressions(log.impressions, config.slices).test)
        index, texts = LogIndex(log), unit.texts(log.catalog)
        truth = read_truth(site)
        rows = truth.rows_of(np.repeat(test.ids, test.requests.lengths()), log.catalog.ids[test.requests.item])
        histories = index.histories(test.requests, length=config.encoder.history_length)
        clicks = index.reader(test.requests, histories).count(Count(CLICK, ITEM)).astype(np.float64)
        scores: dict[str, Float64] = {
            "truth": truth.interest[rows],
            "popularity": clicks,
            "lexical": lexical_column(texts.terms, test.requests, histories).astype(np.float64),
            "ranker": scores_over_log(unit, index, test.requests, texts, threads=0),
        }
        return _results(scores, test, redraw_clicks(truth, seed=12)[rows])


def _results(scores: dict[str, Float64], test: Impressions, label: np.ndarray) -> list[Result]:
    offsets, users = test.requests.offsets, test.requests.user
    ndcg = {name: list_metrics(values, label, offsets).ndcg_at_10 for name, values in scores.items()}
    results = []
    for name, values in ndcg.items():
        interval = mean_interval(values, users, resamples=1000, seed=0)
        results.append(Result(f"ndcg_at_10_{name}", interval.mean, "", low=interval.low, high=interval.high))
    gap = float(np.nanmean(ndcg["truth"] - ndcg["popularity"]))
    closed = float(np.nanmean(ndcg["ranker"] - ndcg["popularity"]))
    results.append(Result("gap_closed", closed, "nDCG@10, of the gap from popularity to the truth", gap, closed / gap))
    return results


if __name__ == "__main__":
    command(measure)
