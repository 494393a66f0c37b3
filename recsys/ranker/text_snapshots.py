"""Item representations over time: for every encoder of a schedule its vectors and its collaborative tables."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from features.offline.reader import LogIndex
from recsys.collaborative.offline import OfflineSnapshots
from recsys.collaborative.snapshot import TableSettings, collaborative_columns
from recsys.encoder.snapshots import ScheduledEncoder
from recsys.encoder.text_model import TextModel
from recsys.ranker.column_names import model_columns
from recsys.ranker.matrix import ItemRepresentations
from recsys.ranker.tfidf import TermRows

_CACHED_BYTES = 512 * 2**20
_CACHED_TABLES = 2


@dataclass(frozen=True)
class RepresentationSchedule:
    """states: encoders in the order of their starts. item_text: (n_items + 1,) texts. terms: their TF-IDF rows.
    collaborative: when and how tables are built, None for none. read: names of the columns that a ranker reads, None
    for all. Vectors are cached up to a size, tables of the two encoders that were used last.
    """

    states: tuple[ScheduledEncoder, ...]
    item_text: Sequence[str]
    terms: TermRows
    collaborative: TableSettings | None
    read: tuple[str, ...] | None = None
    _texts: OrderedDict[int, ItemRepresentations] = field(default_factory=OrderedDict, compare=False)
    _tables: OrderedDict[tuple[int, int], tuple[LogIndex, OfflineSnapshots]] = field(
        default_factory=OrderedDict, compare=False
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the matrix's columns that are made of these, in order."""
        return model_columns(collaborative_columns(self.collaborative), self.read)

    @property
    def served(self) -> TextModel:
        """The latest encoder."""
        return self.states[-1].model

    @property
    def latest(self) -> ItemRepresentations:
        """The items by the latest encoder."""
        return self.of(len(self.states) - 1)

    def of(self, number: int) -> ItemRepresentations:
        """The items by one of the encoders."""
        if number not in self._texts:
            vectors = self.states[number].model.encode_texts(self.item_text)
            self._texts[number] = ItemRepresentations(vectors, self.terms)
            _drop_oldest(self._texts, max(2, _CACHED_BYTES // max(1, vectors.nbytes)))
        self._texts.move_to_end(number)
        return self._texts[number]

    def tables(self, number: int, index: LogIndex) -> OfflineSnapshots | None:
        """The collaborative tables over a log, with vectors of one of the encoders; None where there are none."""
        if self.collaborative is None:
            return None
        key = (number, id(index))
        if key not in self._tables:
            vectors = self.of(number).vectors
            self._tables[key] = (index, OfflineSnapshots(index, vectors, self.collaborative))
            _drop_oldest(self._tables, _CACHED_TABLES)
        self._tables.move_to_end(key)
        return self._tables[key][1]


def _drop_oldest(cache: OrderedDict[Any, Any], most: int) -> None:
    """Drop what was used longest ago until at most `most` entries are left."""
    while len(cache) > most:
        cache.popitem(last=False)
