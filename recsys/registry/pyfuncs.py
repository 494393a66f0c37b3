"""The two models as MLflow serves them: pandas in, pandas out, through `mlflow.pyfunc` or `mlflow models serve`.

MLflow executes `served_encoder.py` and `served_ranker.py` on load (models from code); weights are safetensors,
LightGBM's text and JSON, so nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from features.arrays import Float64
from features.errors import InputError
from recsys.encoder.scoring import score_candidates
from recsys.encoder.text import Template, clean_text
from recsys.ranker.model import load_ranker, read_settings
from recsys.ranker.ranker import Ranker
from recsys.serving.item_parsing import cell_text

if TYPE_CHECKING:
    from recsys.encoder.model import Encoder

ENCODER_ARTIFACT = "encoder"
RANKER_ARTIFACT = "unit"


class RankerModel(PythonModel):  # type: ignore[misc]
    """Feature columns and an optional impression_id in; score and rank of each row out."""

    ranker: Ranker

    def load_context(self, context: PythonModelContext) -> None:
        """Read the booster and its columns."""
        folder = Path(context.artifacts[RANKER_ARTIFACT])
        self.ranker = load_ranker(folder, read_settings(folder).columns)

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Scores and ranks, (n_rows,) each; without impression_id all rows are one impression. NaN is missing."""
        missing = [column for column in self.ranker.columns if column not in model_input.columns]
        if missing:
            raise InputError(f"expected the ranker's {len(self.ranker.columns)} columns, missing {missing[:5]!r}")
        matrix = model_input[list(self.ranker.columns)].to_numpy(np.float32)
        scores = self.ranker.scores(np.ascontiguousarray(matrix))
        impression_ids = model_input.get("impression_id")
        return pd.DataFrame({"score": scores, "rank": _ranks(scores, impression_ids)}, index=model_input.index)


class EncoderModel(PythonModel):  # type: ignore[misc]
    """The texts of a history and the columns of a candidate in; the text score out."""

    encoder: Encoder
    template: Template

    def load_context(self, context: PythonModelContext) -> None:
        """Read the tower and the head."""
        from recsys.encoder.model import load_encoder

        self.encoder = load_encoder(Path(context.artifacts[ENCODER_ARTIFACT]))
        self.template = Template.parse(self.encoder.settings.template)

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """The score of each row, (n_rows,): NaN where no column of the text template is given.

        history: the texts of the clicked items, oldest first, each with the lines that the template makes of an item.
        The template's columns: the candidate's, as the items table has them.
        """
        rows = [self._texts_of(row) for row in model_input.to_dict("records")]
        distinct = sorted({text for history, candidate in rows for text in (*history, candidate) if text})
        vectors = dict(zip(distinct, self.encoder.encode_texts(distinct), strict=True))
        scores = []
        for history, candidate in rows:
            if not candidate:
                scores.append(np.nan)
                continue
            clicked = [vectors[text] for text in history[-self.encoder.settings.history_length :]]
            history_vectors = np.stack(clicked) if clicked else np.zeros((0, self.encoder.dim), np.float32)
            scores.append(
                float(score_candidates(self.encoder.weights, history_vectors, vectors[candidate][None])[0, 0])
            )
        return pd.DataFrame({"score": scores}, index=model_input.index)

    def _texts_of(self, row: dict[Hashable, Any]) -> tuple[list[str], str]:
        """The texts of a row's history, empty ones left out, and of its candidate."""
        history = row.get("history")
        texts = (
            [_cleaned(str(text)) for text in history if text] if isinstance(history, (list, tuple, np.ndarray)) else []
        )
        values = {name: row.get(name) for name in self.template.columns}
        fields = {name: cell_text(value, name) for name, value in values.items() if not _is_missing(value)}
        return [text for text in texts if text], self.template.fill(fields)


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _cleaned(text: str) -> str:
    """A text as the template's lines are cleaned."""
    return "\n".join(clean_text(line) for line in text.split("\n")).rstrip("\n")


def _ranks(scores: Float64, impression_ids: pd.Series | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Ranks from 1 within each impression, the higher score first, equal ones in the order of the rows."""
    frame = pd.DataFrame({"score": scores, "list": 0 if impression_ids is None else impression_ids.to_numpy()})
    ranks = frame.groupby("list", dropna=False)["score"].rank(method="first", ascending=False)
    return ranks.to_numpy().astype(np.int64)
