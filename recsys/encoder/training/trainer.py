"""An encoder in training: head, vectors of all texts and, where the layers train too, the upper part of the tower.

A part of the log is learnt by the head alone, or by the layers under the head and then by the head on their vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Float32
from recsys.config import EncoderConfig
from recsys.encoder.head import Head
from recsys.encoder.training.batches import validation_ndcg
from recsys.encoder.training.checkpoint import StateDict, merge_states
from recsys.encoder.training.data import TrainingData
from recsys.encoder.training.early_stopping import EpochRecord, Progress
from recsys.encoder.training.examples import ListSet
from recsys.encoder.training.fine_tune_phase import FineTunePhase
from recsys.encoder.training.head_phase import HeadPhase
from recsys.encoder.training.loop import Phase, Schedule, TrainingChunk, TrainingLoop, parameter_groups
from recsys.encoder.training.upper_layers import TrainableLayers


class EncoderTrainer:
    """head and vectors, (n_texts, d) as the tower gives them: training changes both. upper: None for frozen layers.

    after_update: called after every update of weights; `kept` then holds what `restore` needs to go on from there.
    """

    def __init__(
        self,
        settings: EncoderConfig,
        material: TrainingData,
        head: Head,
        vectors: Tensor,
        generator: np.random.Generator,
        upper: TrainableLayers | None = None,
        after_update: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self.material = material
        self.head = head
        self.vectors = vectors
        self.upper = upper
        self._generator = generator
        self._after_update = after_update
        self._head_phase = HeadPhase(
            head,
            vectors,
            material.examples,
            material.validation,
            batch_size=settings.head_batch_size,
            negatives=settings.negatives,
            loss=settings.loss,
        )
        self._head_fitting = self._fitting(self._head_phase, head, settings.head_learning_rate)
        self._layers_phase: FineTunePhase | None = None
        if upper is not None:
            self._layers_phase = FineTunePhase(
                head,
                upper,
                vectors,
                material.read,
                material.examples,
                material.validation,
                block_size=settings.fine_tune_block_size,
                negatives=settings.negatives,
                loss=settings.loss,
            )
            rate = settings.fine_tune_learning_rate
            self._layers_fitting = self._fitting(self._layers_phase, upper.trained, rate)

    def fit_head(self, stretch: TrainingChunk, on_record: Progress | None) -> list[EpochRecord]:
        """The first stretch: the head, until it validates no better."""
        if self.settings.loss == "binary" and self._head_fitting.untouched:
            self._head_phase.init_bias_to_click_rate()
            self._head_fitting = self._fitting(self._head_phase, self.head, self.settings.head_learning_rate)
        return self._head_fitting.fit(stretch, self.settings.head_epochs, on_record)

    def fork_with_layers(self, upper: TrainableLayers) -> EncoderTrainer:
        """A learner that goes on from this one's head and trains the layers too; this one stays as it is."""
        head = copy.deepcopy(self.head)
        vectors = self.vectors.clone()
        return EncoderTrainer(self.settings, self.material, head, vectors, self._generator, upper, self._after_update)

    def fit_layers(self, stretch: TrainingChunk, on_record: Progress | None) -> list[EpochRecord]:
        """The first stretch: the layers under the head as it is, until they validate no better. Where no pass did, this
        learner is of no use."""
        if self._layers_phase is None:
            raise ValueError("expected a learner with upper layers to train, got one whose layers are frozen")
        records = self._layers_fitting.fit(stretch, self.settings.fine_tune_epochs, on_record)
        kept = [record.kept for record in records]
        if any(kept[1:]) and (self._layers_phase.encodes_otherwise or not kept[-1]):
            self._layers_phase.encode()
        return records

    def learn(self, stretch: TrainingChunk) -> float:
        """A later stretch, all epochs of the head; the mean loss of the last, NaN where there was nothing to learn."""
        return self._head_fitting.learn(stretch, self.settings.chunk_epochs) if len(stretch.new) else float("nan")

    def train_layers(self, stretch: TrainingChunk) -> None:
        """The upper layers on a stretch and all before it, then the head on the same lists: it is for the vectors that
        it has seen. Nothing where the stretch is empty."""
        if self._layers_phase is None:
            raise ValueError("expected a learner with upper layers to train, got one whose layers are frozen")
        if not len(stretch.new):
            return
        everything = stretch.with_history()
        self._layers_fitting.learn(everything, self.settings.fine_tune_epochs)
        self._layers_phase.encode()
        self._head_fitting.learn(everything, self.settings.chunk_epochs)

    def ndcg(self, lists: ListSet) -> float:
        """Mean nDCG@10 of lists with the weights as they are."""
        self.head.eval()
        with torch.inference_mode():
            return validation_ndcg(self.head, self.head.mapped(self.vectors), lists)

    def mapped(self) -> Float32:
        """The vectors of all texts as they are compared, (n_texts, d) on the grid of `features.exact`."""
        return self.head.grid_vectors(self.vectors.cpu().numpy())

    def kept(self) -> StateDict:
        """What `restore` needs: of frozen layers no vectors, which the base model gives again."""
        parts = {"head": self._head_fitting.kept()}
        if self._layers_phase is not None:
            parts["layers"] = self._layers_fitting.kept()
            parts["vectors"] = StateDict({}, {"read": self.vectors[self._read()]})
        return merge_states({"training": self.head.training}, parts)

    def restore(self, kept: StateDict) -> None:
        """Take up what another learner of the same kind kept, and go on where it was."""
        self.head.train(kept.facts["training"])
        self._head_fitting.restore(kept.part("head"))
        if self._layers_phase is not None:
            self._layers_fitting.restore(kept.part("layers"))
            self.vectors[self._read()] = kept.part("vectors").tensors["read"].to(self.vectors.device)

    def _read(self) -> Tensor:
        return torch.from_numpy(self.material.read)

    def _fitting(self, phase: Phase, trained: nn.Module, rate: float) -> TrainingLoop:
        settings = self.settings
        schedule = Schedule(
            warmup_updates=settings.warmup_updates,
            gradient_clip=settings.gradient_clip,
            average=settings.average,
            accumulate=settings.accumulate,
            patience=settings.patience,
        )
        groups = parameter_groups([(trained, rate)], settings.weight_decay)
        return TrainingLoop(phase, groups, schedule, self._generator, self._after_update)
