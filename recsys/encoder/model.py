"""A trained text encoder: tower, head, settings, and the table of its vectors.

Written as a folder without pickle: `transformer/` in Hugging Face's layout, `head.safetensors`, `encoder.json` with the
number of this format, `vectors.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from features.arrays import Float32
from features.atomic_files import atomic_folder
from features.exact import to_grid
from recsys.encoder.base_model import load_base_model, quiet_transformers
from recsys.encoder.dtype import Dtype
from recsys.encoder.head import Head
from recsys.encoder.scoring import HeadWeights, untrained_head
from recsys.encoder.text import Template
from recsys.encoder.text_fields import concat_fields, split_fields, unit_mean_line
from recsys.encoder.tower import Pooling, TextTower
from recsys.encoder.vector_table import VectorTable, empty_table, load_table
from recsys.errors import ModelError

logger = logging.getLogger(__name__)
FORMAT = 2
_SETTINGS, _HEAD, _TRANSFORMER, _VECTORS = "encoder.json", "head.safetensors", "transformer", "vectors.safetensors"


@dataclass(frozen=True)
class EncoderSettings:
    """The settings that encode a text and a history as in training. The fields are those of `config.EncoderConfig`, but
    dtype is the arithmetic that was computed in."""

    base_model: str
    template: str
    max_tokens: int
    history_length: int
    pooling: Pooling
    dtype: Dtype


class Encoder:
    """Texts to vectors, and the weights that score them. `head` None is the untrained one: mean-history cosine."""

    def __init__(
        self, settings: EncoderSettings, tower: TextTower, head: Head | None, table: VectorTable | None = None
    ) -> None:
        self.settings = settings
        self.tower = tower
        self.head = None if head is None else head.eval()
        self.n_lines = len(Template.parse(settings.template).lines)
        self.table = empty_table(self.dim) if table is None else table

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self.tower.dim

    @property
    def history_length(self) -> int:
        """Most recent distinct clicked items that are read."""
        return self.settings.history_length

    @cached_property
    def weights(self) -> HeadWeights:
        """What `scoring.score_candidates` reads."""
        return untrained_head(self.dim) if self.head is None else self.head.export()

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with any weight, token or setting that a vector or score depends on."""
        digest = hashlib.sha256(json.dumps(asdict(self.settings) | {"base_model": ""}, sort_keys=True).encode())
        vocabulary = self.tower.tokenizer.get_vocab()
        digest.update(json.dumps(sorted(vocabulary.items()), ensure_ascii=True).encode())
        for name, tensor in sorted(self.tower.transformer.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        for name, tensor in sorted({} if self.head is None else self.head.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:32]

    def prepare(self, *, threads: int) -> None:
        """Load and compile what encoding needs, so that the first text does not wait. threads: of torch."""
        torch.set_num_threads(threads)
        self.tower.prepare()

    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """Vectors of the texts, (n, d) float32, unit length; NaN rows for empty texts.

        A text in the table has the table's vector, to the last bit; others are encoded now, each distinct one once.
        """
        vectors, is_stored = self.table.vectors_of(texts)
        missing = [i for i, stored in enumerate(is_stored) if not stored and texts[i]]
        distinct = {text: k for k, text in enumerate(dict.fromkeys(texts[i] for i in missing))}
        if distinct:
            fields = split_fields(list(distinct), self.n_lines)
            base = concat_fields(self.tower.encode(fields.distinct), fields.of_text)
            vectors[missing] = self.project(base)[[distinct[texts[i]] for i in missing]]
        return vectors

    def project(self, base: Float32) -> Float32:
        """Vectors as stored and compared, (n, d) on the grid of `features.exact`, from the tower's of their lines side
        by side, (n, k * d)."""
        if self.head is None:
            return to_grid(unit_mean_line(base, self.n_lines))
        return self.head.grid_vectors(base)

    def with_table(self, texts: Sequence[str], vectors: Float32 | None = None) -> Encoder:
        """The same encoder whose table also holds `texts`; vectors: (n, d), theirs; None encodes them."""
        distinct = {text: i for i, text in reversed(list(enumerate(texts))) if text}
        chosen = list(distinct)
        added = self.encode_texts(chosen) if vectors is None else vectors[list(distinct.values())]
        return Encoder(self.settings, self.tower, self.head, self.table.with_texts(chosen, added))

    def in_float32(self) -> Encoder:
        """The same weights encoding in float32, which every machine computes, with an empty table."""
        return Encoder(replace(self.settings, dtype="float32"), self.tower.with_dtype("float32"), self.head)

    def save(self, folder: Path) -> None:
        """Write the encoder; `folder` must not exist, and appears only once complete."""
        if folder.exists():
            raise FileExistsError(f"expected a new folder for the encoder, {str(folder)!r} exists")
        with atomic_folder(folder) as partial:
            with quiet_transformers():
                self.tower.transformer.save_pretrained(partial / _TRANSFORMER)
                self.tower.tokenizer.save_pretrained(partial / _TRANSFORMER)
            if self.head is not None:
                save_file({k: v.cpu().contiguous() for k, v in self.head.state_dict().items()}, partial / _HEAD)
            self.table.save(partial / _VECTORS, self.fingerprint)
            content = {"format": FORMAT, "fingerprint": self.fingerprint, "trained": self.head is not None}
            content |= {"settings": asdict(self.settings)}
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
            (partial / _SETTINGS).write_text(text + "\n", encoding="utf-8")


def load_encoder(folder: Path) -> Encoder:
    """The encoder that `Encoder.save` wrote. Raises ModelError where a part is missing, altered or of other format."""
    try:
        content = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ModelError(
                f"encoder {str(folder)!r}: expected format {FORMAT}, got {content['format']!r}, which another release "
                "of recsys wrote; train it again with `recsys train`"
            )
        settings = EncoderSettings(**content["settings"])
        head = _load_head(folder / _HEAD) if content["trained"] else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"encoder {str(folder)!r} cannot be read: {type(error).__name__}: {reason}") from error
    encoder = Encoder(settings, load_tower(str(folder / _TRANSFORMER), settings), head)
    if encoder.fingerprint != content["fingerprint"]:
        raise ModelError(
            f"encoder {str(folder)!r}: expected weights with fingerprint {content['fingerprint']!r}, got "
            f"{encoder.fingerprint!r}; the files have been altered"
        )
    encoder.table = load_table(folder / _VECTORS, encoder.fingerprint)
    if encoder.tower.computes_in != settings.dtype:
        logger.warning(
            "the encoder was trained in %s, which this machine does not compute: its stored vectors are read as they "
            "are, new texts are encoded in %s",
            settings.dtype,
            encoder.tower.computes_in,
        )
    return encoder


def encoding_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_tower(source: str, settings: EncoderSettings) -> TextTower:
    """The tower of a base model (folder, hub name or `builtin`), on the GPU where there is one."""
    base = load_base_model(source)
    base.transformer.to(encoding_device())
    return TextTower(base, max_tokens=settings.max_tokens, pooling=settings.pooling, dtype=settings.dtype)


def _load_head(path: Path) -> Head:
    state = load_file(path)
    dim = len(state["prior"])
    head = Head(dim, state["map_in.weight"].shape[1] // dim)
    head.load_state_dict(state)
    return head
