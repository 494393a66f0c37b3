"""`make demo`: the whole chain on a simulated news site, from nothing to a served ranking.

Writes the folder `demo/` (tables, a scored batch, an online store), an MLflow run and the first versions of
demo-encoder and demo-ranker; a second demo adds versions.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipelines.load import load_events, load_items
from pipelines.process import one_blas_thread, run
from pipelines.score import score
from pipelines.simulate import simulate
from pipelines.train import train
from recsys.config import load_config
from recsys.online.open_state import open_state
from recsys.registry.versions import load
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService

FOLDER = Path("demo")
NAME = "demo"
MODEL = f"models:/{NAME}-ranker@champion"
SCORED = 200


def demo() -> None:
    """Simulate, train, score a batch, rank one request, and say what to do next."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    site, out, store = FOLDER / "site", FOLDER / "scored", FOLDER / "store"
    _say("1. A simulated news site")
    print("\n".join(simulate(site, users=1_000, items=800, impressions=8_000, seed=7).lines()))
    _say("2. Training: text encoder, re-ranker, evaluation on the newest 15% of the lists")
    report = train(site, load_config(), name=NAME)
    print("\n".join(report.lines()))
    model = MODEL if report.models.verdict.registered.alias else report.models.ranker.uri
    _say(f"3. A batch: the newest {SCORED} lists of the site, ranked")
    candidates = FOLDER / "candidates.parquet"
    _newest_lists(site / "impressions.parquet", candidates)
    print("\n".join(score(site, candidates, out, model=model).lines()))
    _say("4. One request, ranked from the online store")
    for loaded in (
        load_items(site / "items.parquet", str(store), model),
        load_events(site / "events.parquet", str(store), model),
        load_events(site / "impressions.parquet", str(store), model),
    ):
        print("\n".join(loaded.lines()))
    _rank_one(site, store, model)
    _say("What next")
    programs = _programs()
    print(
        f"  {programs}/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db   runs, plots and both models\n"
        f"  {programs}/recsys serve --model {model} --store {store}   the API and its playground\n"
        f"  {programs}/recsys train DIR   the same on your own click logs; the README says what DIR holds"
    )


def _say(title: str) -> None:
    print(f"\n== {title}", flush=True)


def _programs() -> Path:
    """The folder of `recsys` and `mlflow`, relative where it is below the working folder."""
    folder, working_folder = Path(sys.executable).parent, Path.cwd()
    return folder.relative_to(working_folder) if folder.is_relative_to(working_folder) else folder


def _newest_lists(impressions: Path, out: Path) -> None:
    """Candidates of the newest lists, without their labels."""
    table = ds.dataset(impressions).to_table(columns=["impression_id", "user_id", "timestamp", "item_id"])
    newest = pc.unique(table.sort_by([("timestamp", "descending")])["impression_id"])[:SCORED]
    pq.write_table(table.filter(pc.is_in(table["impression_id"], value_set=newest)), out)


def _rank_one(site: Path, store: Path, model: str) -> None:
    """A user's list as the API answers it, with titles."""
    table = ds.dataset(site / "impressions.parquet").to_table(columns=["impression_id", "user_id", "item_id"])
    rows = table.filter(pc.equal(table["impression_id"], table["impression_id"][-1])).to_pylist()
    items = ds.dataset(site / "items.parquet").to_table(columns=["item_id", "title"]).to_pylist()
    titles = {row["item_id"]: row["title"] for row in items}
    loaded = load(model)
    with open_state(str(store), loaded.ranking_model.settings, create=False) as state:
        service = RankService(loaded.ranking_model, state, ranker=str(loaded.ranker), encoder=loaded.encoder_name)
        answer = service.rank(
            RankRequest.model_validate(
                {"user_id": rows[0]["user_id"], "candidates": [row["item_id"] for row in rows], "top_k": 5}
            )
        )
    print(f"user {rows[0]['user_id']}, {len(rows)} candidates, the first five:")
    for item in answer["items"]:
        print(f"  {item['rank']}. {item['score']:7.3f}  {titles[item['item_id']]}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    one_blas_thread()
    sys.exit(run(demo, debug=False))
