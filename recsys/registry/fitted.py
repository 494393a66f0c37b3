"""What a training fitted: the model that was evaluated, the one that is served, and fingerprints of both."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from recsys.encoder.model import Encoder
from recsys.encoder.training.train import TrainedEncoder
from recsys.ranker.column_names import ENCODER_COLUMNS
from recsys.ranker.ranker import Ranker
from recsys.ranker.tfidf import Lexical
from recsys.registry.run_tags import ENCODER_FINGERPRINT, RANKER_FINGERPRINT
from recsys.training.context import TrainingContext
from recsys.training.model_choice import FROZEN_TEXT
from recsys.training.stages import RankerResult


@dataclass(frozen=True)
class FittedModel:
    """A ranker with the encoder whose columns it reads, None where it reads none. trained_until: time of the newest
    label that either, early stopping or a choice used; encoder_trained_until: that the encoder learnt, None for none;
    microseconds. final: whether both learnt test. fallback: the ranker without text beside it, None for none."""

    ranker: Ranker
    encoder: Encoder | None
    trained_until: int
    encoder_trained_until: int | None
    final: bool = False
    fallback: Ranker | None = None


def evaluated_model(context: TrainingContext, trained: TrainedEncoder, ranked: RankerResult) -> FittedModel:
    """What the reported figures are of."""
    method, times = ranked.choice.method, context.log.impressions.requests.time
    ranker, until = ranked.rankers[method], int(times[context.sliced.valid].max())
    fitted = _with_encoder(method, ranker, trained, trained.full, until, trained.states[-1].trained_until)
    return replace(fitted, fallback=ranked.fallback(final=False))


def served_model(context: TrainingContext, trained: TrainedEncoder, ranked: RankerResult) -> FittedModel:
    """The same after it learnt test."""
    method, until = ranked.choice.method, int(context.log.impressions.requests.time.max())
    final = _with_encoder(method, ranked.registered, trained, trained.served, until, trained.served_trained_until)
    return replace(final, final=True, fallback=ranked.fallback(final=ranked.final is not None))


def _with_encoder(
    method: str, ranker: Ranker, trained: TrainedEncoder, encoder: Encoder, until: int, encoder_until: int | None
) -> FittedModel:
    if set(ranker.columns).isdisjoint(ENCODER_COLUMNS):
        return FittedModel(ranker, None, until, None)
    if method == FROZEN_TEXT or not trained.trained:
        return FittedModel(ranker, trained.frozen, until, None)
    return FittedModel(ranker, encoder, until, encoder_until)


def fingerprints(
    context: TrainingContext, trained: TrainedEncoder, lexical: Lexical, ranked: RankerResult
) -> dict[str, str]:
    """Tags that are equal for trainings whose encoders, or whose rankers, have equal bits; "" for no encoder."""
    models = [evaluated_model(context, trained, ranked)]
    if context.config.final_training:
        models.append(served_model(context, trained, ranked))
    encoders = [model.encoder.fingerprint for model in models if model.encoder is not None]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        lexical.save(folder / "lexical")
        for number, model in enumerate(models):
            for name, ranker in (("ranker", model.ranker), ("fallback", model.fallback)):
                if ranker is not None:
                    (folder / f"{name}-{number}").mkdir()
                    ranker.save(folder / f"{name}-{number}")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests = [f"{path.relative_to(folder).as_posix()} {_digest([path.read_bytes()])}" for path in files]
    return {
        ENCODER_FINGERPRINT: _digest(fingerprint.encode() for fingerprint in encoders) if encoders else "",
        RANKER_FINGERPRINT: _digest(digest.encode() for digest in digests),
    }


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]
