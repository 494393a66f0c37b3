"""Every setting with its unit, its range and the default that ships: one tree of frozen models.

A YAML file and `--set a.b=c` fill it; unknown keys are errors; the whole tree is logged to the run.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from features.definitions.settings import FeatureSettings
from features.tables.data_settings import DataSettings
from features.tables.encodings import FileOptions, check_encoding
from recsys.collaborative.settings import CollaborativeSettings
from recsys.errors import ConfigError
from recsys.settings.monitor import MonitorConfig as MonitorConfig
from recsys.settings.section import ConfigSection as ConfigSection
from recsys.settings.serving import ServingConfig as ServingConfig

if TYPE_CHECKING:
    from features.definitions.custom_file import CustomFeatures

_WithoutTrees = Literal["auto", "popularity", "tfidf", "blend", "text"]
_WithTrees = Literal["behaviour", "behaviour_lexical", "no_collaborative", "frozen_text", "ensemble", "ranker"]
Registered = Literal[_WithoutTrees, _WithTrees]
"""Methods of a training that can be registered; `auto` compares them."""

LabelWeights = dict[PositiveInt, PositiveFloat]
"""Weights by label, such as {3: 5} for a purchase; 1 where a label is not named."""


class DataConfig(DataSettings, ConfigSection):
    """How the input tables are read."""

    encoding: Annotated[str, AfterValidator(check_encoding)] = "utf-8"
    """Encoding of text files (CSV, TSV, JSON lines), a name that Python knows."""
    max_rejects: float = Field(0.5, ge=0, le=1)
    """Largest share of a table's rows that may be rejected; more is an error."""

    @property
    def files(self) -> FileOptions:
        """How files are read."""
        return FileOptions(self.encoding, self.max_rejects)


class SlicesConfig(ConfigSection):
    """Shares of the impressions in time order, oldest first. They sum to 1."""

    encoder: float = Field(0.25, gt=0, lt=1)
    ranker: float = Field(0.50, gt=0, lt=1)
    valid: float = Field(0.10, gt=0, lt=1)
    test: float = Field(0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> SlicesConfig:
        total = self.encoder + self.ranker + self.valid + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the four shares sum to 1, got {total:.6g}")
        return self


class PretrainingConfig(ConfigSection):
    """Self-supervised training of the base model on item texts, before any label; off by default."""

    masked_epochs: int = Field(0, ge=0)
    """Passes of masked language modelling over the texts; 0 leaves it out."""
    contrastive_epochs: int = Field(0, ge=0)
    """Passes of contrastive training (a text against itself through other dropout) after that; 0 leaves it out."""
    layers: int | None = Field(None, ge=1)
    """Upper layers that are trained; None is all of them and the embeddings."""
    masked_share: float = Field(0.15, gt=0, lt=1)
    """Share of the words that are masked; of the tokens where word boundaries are unknown."""
    masked_learning_rate: float = Field(1e-4, gt=0)
    masked_head_learning_rate: float = Field(1e-3, gt=0)
    """Of the output layer, which is initialised for pre-training."""
    masked_batch_tokens: int = Field(2048, ge=1)
    """Most tokens a step, padding included; at least one text."""
    contrastive_learning_rate: float = Field(1e-5, gt=0)
    contrastive_batch_tokens: int = Field(8192, ge=1)
    """Most tokens a step, both views and padding included. The other texts of a step are the negatives."""
    temperature: float = Field(0.05, gt=0)
    """What cosines are divided by in the contrastive loss."""
    held_out_share: float = Field(0.05, gt=0, lt=0.5)
    """Random share of the texts that validates; it trains nothing."""
    warmup_updates: int = Field(10, ge=0)
    """Updates of a phase over which its learning rate rises from 0; it is constant from there."""


class EncoderConfig(ConfigSection):
    """The text encoder: base model, text, attention over the history, and its training."""

    base_model: str = "builtin"
    """A folder, a hub name, or `builtin` for the all-MiniLM-L6-v2 weights that are installed with this project."""
    template: str = "{title}\n{category}\n{description}"
    """Text of an item; any column of the items table may stand in braces, a missing one is left out. Each line is
    encoded on its own, and the head reads the vectors of the lines side by side."""
    max_tokens: int = Field(64, ge=4, le=8192)
    """Longest line of a text, in tokens of the base model; what is beyond is cut and counted."""
    history_length: int = Field(50, ge=1, le=50)
    """Most recent distinct clicked items that make the user vector."""
    pooling: Literal["mean", "cls"] = "mean"
    loss: Literal["listwise", "binary"] = "listwise"
    negatives: int = Field(20, ge=1)
    """Unclicked items sampled for each clicked one, from the same list; drawn again each epoch."""
    click_weights: LabelWeights = Field(default_factory=dict)
    """Weight of a clicked item in training, by its label."""
    validation_share: float = Field(0.10, gt=0, lt=0.5)
    """Newest share of the encoder slice that validates and stops the training on the rest, and is learnt from then."""
    min_impressions: int = Field(1000, ge=1)
    """Impressions with a clicked and an unclicked text that train the encoder; from fewer a frozen one is better."""
    progressive_chunks: int = Field(8, ge=0)
    """Chunks of the ranker slice in time order, each scored before it trains, then valid; 0: only the encoder slice."""
    rehearsal_ratio: float = Field(1.0, ge=0)
    """Older examples that are learnt again beside a chunk's own, as a share of those; drawn again each epoch."""
    chunk_epochs: int = Field(4, ge=0)
    """Passes of the head over each chunk."""
    fine_tune_every: int = Field(4, ge=0)
    """After every so many chunks, or after all of them if there are fewer, the upper layers are trained on all
    impressions so far, then the head. 0, or without chunks: on the encoder slice only, validated by its newest part."""
    head_epochs: int = Field(8, ge=0)
    """Most passes of the head over the encoder slice."""
    head_learning_rate: float = Field(2e-3, gt=0)
    head_batch_size: int = Field(512, ge=1)
    """Impressions a step."""
    head_dropout: float = Field(0.2, ge=0, lt=1)
    fine_tune_epochs: int = Field(2, ge=0)
    """Most passes over the texts each time that the upper layers are trained; 0 keeps the base model frozen."""
    fine_tune_layers: int = Field(2, ge=1)
    """Upper layers that are trained; the activations below them are computed once."""
    fine_tune_learning_rate: float = Field(2e-4, gt=0)
    fine_tune_block_size: int = Field(192, ge=1)
    """Distinct texts a step; it trains on the lists that show one of them."""
    accumulate: int = Field(1, ge=1)
    """Steps whose mean gradient makes one update of the weights."""
    ema_decay: float = Field(0.95, ge=0, lt=1)
    """Share of the running average of the weights that an update keeps; the average is what scores. 0: the weights."""
    weight_decay: float = Field(0.01, ge=0)
    warmup_updates: int = Field(10, ge=0)
    """Updates of a phase over which its learning rate rises from 0; it is constant from there."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    patience: int = Field(3, ge=1)
    """Validations without a better nDCG@10 before a phase stops on the encoder slice; an epoch has one."""
    checkpoint_minutes: float = Field(5.0, ge=0)
    """Between two checkpoints within a chunk of the log; there is one after each chunk too; 0: after every update."""
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Arithmetic of the transformer; auto is bfloat16 where the hardware computes in it. int8 trains as auto does and
    encodes on CPUs with AVX-512 VNNI through OpenVINO (package extra `int8`)."""
    pretraining: PretrainingConfig = PretrainingConfig()


class FeaturesConfig(FeatureSettings, ConfigSection):
    """Which item columns become features beside the built-in catalogue."""

    categories: tuple[str, ...] | None = None
    """Categorical item columns; None is every text column with repeated values that is not title or description."""
    max_category_values: int = Field(200, ge=1)
    """Most frequent values of a categorical column that get a code of their own; the others are missing."""
    file: str | None = None
    """Python file with features of your own, in the words of `features.definitions.custom`; see docs/features.md."""

    @cached_property
    def custom(self) -> CustomFeatures | None:
        """The features of `file`: read and executed once, so that all of a training uses the same ones.

        Raises InputError for an unusable file.
        """
        if self.file is None:
            return None
        from features.definitions.custom_file import read_custom_features  # it loads numba

        return read_custom_features(Path(self.file))


class CollaborativeConfig(CollaborativeSettings, ConfigSection):
    """Collaborative tables of items, rebuilt at regular times from earlier clicks only."""

    tables: int = Field(10, ge=0, le=1000)
    """Tables made over the time from the ranker's first row to valid's last; 0 leaves these columns out."""


class LexicalConfig(ConfigSection):
    """TF-IDF similarity of a candidate to the history."""

    max_terms: int = Field(50_000, ge=1)
    min_document_count: int = Field(2, ge=1)


class RankerConfig(ConfigSection):
    """LightGBM lambdarank."""

    learning_rate: float = Field(0.03, gt=0)
    num_leaves: int = Field(15, ge=2)
    min_data_in_leaf: int = Field(50, ge=1)
    feature_fraction: float = Field(0.3, gt=0, le=1)
    bagging_fraction: float = Field(0.8, gt=0, le=1)
    lambda_l2: float = Field(5.0, ge=0)
    max_trees: int = Field(300, ge=1)
    early_stopping_rounds: int = Field(60, ge=1)
    min_trees: int = Field(60, ge=1)
    """Fewest trees, as far as so many are trained: on few valid lists an early best number of trees is luck."""
    small_data_lists: int = Field(2000, ge=0)
    """With fewer training lists the trees are small and few, whatever the settings above: docs/choosing.md."""
    truncation_level: int = Field(20, ge=1)
    """Lambdarank's list depth: pairs with neither item above it give no gradient."""
    list_weights: LabelWeights = Field(default_factory=dict)
    """Weight of a list in training, by its largest label. The metrics on valid and test weigh all lists alike."""
    select_features: bool = False
    """Drop features whose removal makes no significant difference on valid; takes a few more trainings."""
    select_margin: float = Field(0.001, ge=0)
    """Most nDCG@10 on valid that all dropped features together may cost."""


class EvaluationConfig(ConfigSection):
    """Metrics and intervals."""

    resamples: int = Field(1000, ge=100)
    """Bootstrap resamples of the users."""
    cold_item_clicks: int = Field(5, ge=1)
    """An item with fewer clicks before t is cold."""
    cold_user_clicks: int = Field(3, ge=1)
    """A user with fewer clicks before t is cold."""


class PromotionConfig(ConfigSection):
    """What a version must show before `recsys promote` makes it the champion."""

    margin: float = Field(0.0, ge=-1, le=1)
    """Gain in nDCG@10 over the champion that the paired interval's lower end must exceed."""
    min_lists: int = Field(500, ge=1)
    """Fewest lists later than everything that either version learnt from."""
    min_users: int = Field(50, ge=2)
    """Fewest users of those lists; with fewer than about 50 an interval is too narrow."""
    max_megabytes: float = Field(1000.0, gt=0)
    """Largest size of the artifacts of ranker and encoder together, in millions of bytes."""
    max_milliseconds: float = Field(50.0, gt=0)
    """Longest median time to rank 100 candidates in process, with the texts' vectors at hand."""


class AuditConfig(ConfigSection):
    """Sample sizes and thresholds of `recsys audit`; docs/audit.md says how they were chosen."""

    lists: int = Field(300, ge=10)
    """Lists whose columns are computed again over modified logs."""
    moments: int = Field(3, ge=1)
    """Times at which those lists are requested."""
    auc_gap: float = Field(0.05, gt=0, lt=1)
    """How much better a column's own AUC may be on one slice than on another, at the interval's end nearest to 0."""
    text_auc_gap: float = Field(0.02, gt=0, lt=1)
    """The same for the text score between the ranker slice and valid."""
    auc_most: float = Field(0.95, gt=0.5, le=1)
    """A single-column AUC above this, at the interval's low end, is too good to be known beforehand."""
    column_correlation: float = Field(0.1, gt=0, lt=1)
    """How well an undeclared numeric column may rank later events, given the earlier ones; a partial correlation."""


class Config(ConfigSection):
    """The whole configuration of a training."""

    seed: int = 0
    threads: int = Field(0, ge=0)
    """Threads of torch and LightGBM; 0 is one for each core."""
    registered: Registered = "auto"
    """The method that is registered; auto is the ranker with every column, or with few impressions the ensemble, unless
    valid shows that another one is better."""
    final_training: bool = True
    """Let encoder and ranker learn test too, after they were evaluated, for the version that is served. No reported
    figure changes; the version keeps what was evaluated, for later evaluations, comparisons, promotions and audits."""
    data: DataConfig = DataConfig()
    slices: SlicesConfig = SlicesConfig()
    encoder: EncoderConfig = EncoderConfig()
    features: FeaturesConfig = FeaturesConfig()
    lexical: LexicalConfig = LexicalConfig()
    collaborative: CollaborativeConfig = CollaborativeConfig()
    ranker: RankerConfig = RankerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    promotion: PromotionConfig = PromotionConfig()
    audit: AuditConfig = AuditConfig()
    monitor: MonitorConfig = MonitorConfig()
    serving: ServingConfig = ServingConfig()


def load_config(path: Path | None = None, settings: tuple[str, ...] = ()) -> Config:
    """The defaults, overlaid by a YAML file, overlaid by `a.b=c` settings whose values are YAML.

    Raises ConfigError for an unreadable file, an unknown key, or a value out of range; the message names the key.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"config file {str(path)!r} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"config file {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"config file {str(path)!r}: expected a mapping of sections, got {loaded!r}")
        tree = loaded or {}
    for setting in settings:
        _overlay(tree, setting)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"config key {key!r}: {problem['msg']}, got {problem['input']!r}") from error


def _overlay(tree: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected a setting like encoder.max_tokens=96, got {setting!r}")
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"setting {setting!r}: {section!r} is a value, not a section")
    try:
        tree[name] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"setting {setting!r}: the value is not YAML; quote one that begins with a brace") from error
