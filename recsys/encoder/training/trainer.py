"""An encoder in training: head, vectors of all texts and, where the layers train too, the upper part of the tower.

A chunk of the log is learnt by the head alone, or by the layers under the head and then by the head on their vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from features.arrays import Float32
from recsys.config import EncoderConfig
from recsys.encoder.head import Head
from recsys.encoder.training.batches import validate_head
from recsys.encoder.training.checkpoint import State
from recsys.encoder.training.data import TrainingData
from recsys.encoder.training.early_stopping import EpochRecord
from recsys.encoder.training.examples import TextImpressions
from recsys.encoder.training.fine_tune_phase import FineTunePhase
from recsys.encoder.training.head_phase import HeadPhase
from recsys.encoder.training.loop import Phase, TrainingChunk, TrainingLoop
from recsys.encoder.training.upper_layers import TrainableLayers


@dataclass(eq=False)
class EncoderTrainer:
    """head and vectors, (n_texts, d) as the tower gives them: training changes both. layers: None for frozen layers.

    after_update: called after every update of weights; `state_dict` then holds what `load_state_dict` needs to resume
    there.
    """

    settings: EncoderConfig
    data: TrainingData
    head: Head
    vectors: Tensor
    generator: np.random.Generator
    layers: TrainableLayers | None = None
    after_update: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        data, settings = self.data, self.settings
        self._used_texts = torch.from_numpy(data.used_texts)
        self._head_phase = HeadPhase(self.head, self.vectors, data.examples, data.validation, settings)
        self._head_loop = self._loop(self._head_phase, settings.head_learning_rate)
        if self.layers is not None:
            self._layers_phase = FineTunePhase(
                self.head, self.layers, self.vectors, data.used_texts, data.examples, data.validation, settings
            )
            self._layers_loop = self._loop(self._layers_phase, settings.fine_tune_learning_rate)

    def _loop(self, phase: Phase, rate: float) -> TrainingLoop:
        return TrainingLoop(phase, [(phase.module, rate)], self.settings, self.generator, self.after_update)

    def fit_head(self, chunk: TrainingChunk) -> list[EpochRecord]:
        """The first chunk: the head, until it validates no better."""
        if self.settings.loss == "binary" and self._head_loop.untouched:
            self._head_phase.init_bias_to_click_rate()
            self._head_loop = self._loop(self._head_phase, self.settings.head_learning_rate)
        return self._head_loop.fit(chunk, self.settings.head_epochs)

    def fork_with_layers(self, layers: TrainableLayers) -> EncoderTrainer:
        """A trainer that starts from a copy of this one's head and trains the layers too."""
        head, vectors = copy.deepcopy(self.head), self.vectors.clone()
        return EncoderTrainer(self.settings, self.data, head, vectors, self.generator, layers, self.after_update)

    def fit_layers(self, chunk: TrainingChunk) -> list[EpochRecord]:
        """The first chunk: the layers under the frozen head, until validation no longer improves. Where no pass did,
        this trainer is of no use. Needs layers."""
        records = self._layers_loop.fit(chunk, self.settings.fine_tune_epochs)
        is_best = [record.is_best for record in records]
        if any(is_best[1:]) and (self._layers_phase.encodes_otherwise or not is_best[-1]):
            self._layers_phase.encode()
        return records

    def learn(self, chunk: TrainingChunk) -> float:
        """A later chunk, all epochs of the head; the mean loss of the last, NaN where there was nothing to learn."""
        return self._head_loop.learn(chunk, self.settings.chunk_epochs) if len(chunk.new) else float("nan")

    def train_layers(self, chunk: TrainingChunk) -> None:
        """The upper layers on a chunk and all before it, then the head on the same impressions: it is for the vectors
        that it has seen. Nothing where the chunk is empty. Needs layers."""
        if not len(chunk.new):
            return
        everything = chunk.with_history()
        self._layers_loop.learn(everything, self.settings.fine_tune_epochs)
        self._layers_phase.encode()
        self._head_loop.learn(everything, self.settings.chunk_epochs)

    def ndcg(self, impressions: TextImpressions) -> float:
        """Mean nDCG@10 of impressions with the present weights."""
        return validate_head(self.head, self.vectors, impressions).score

    def project(self) -> Float32:
        """The vectors of all texts as they are compared, (n_texts, d) on the grid of `features.exact`."""
        return self.head.grid_vectors(self.vectors.cpu().numpy())

    def state_dict(self) -> State:
        """What `load_state_dict` needs: of frozen layers no vectors, which the base model gives again."""
        state: State = {"training": self.head.training, "head": self._head_loop.state_dict()}
        if self.layers is not None:
            state["layers"] = self._layers_loop.state_dict()
            state["vectors"] = self.vectors[self._used_texts]
        return state

    def load_state_dict(self, state: State) -> None:
        """Resume from the `state_dict` of another trainer of the same kind."""
        self.head.train(state["training"])
        self._head_loop.load_state_dict(state["head"])
        if self.layers is not None:
            self._layers_loop.load_state_dict(state["layers"])
            self.vectors[self._used_texts] = state["vectors"].to(self.vectors.device)
