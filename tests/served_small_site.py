"""A server process for tests: `python -m served_small_site UNIT_FOLDER STORE PORT`, with UNIT_FOLDER/encoder in it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pipelines.serve import listen
from recsys.config import ServingConfig
from recsys.encoder.model import load_encoder
from recsys.processes.answering import answer_with
from recsys.ranker.model import load_ranking_model
from recsys.registry.names import Version
from recsys.registry.versions import LoadedModel


def main(folder: Path, store: str, port: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    ranking_model = load_ranking_model(folder, load_encoder(folder / "encoder"))
    loaded = LoadedModel(ranking_model, Version("small-ranker", "1"), Version("small-encoder", "1"))
    answer_with(loaded, store, listen("127.0.0.1", port), ServingConfig(budget_ms=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
