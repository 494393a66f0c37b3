"""What a server answers with: one version, held as one value that is replaced whole.

A request reads the value once, when it begins, so that no answer mixes two versions. A version that was replaced is
released when the last request that uses it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from features.online.state import OnlineState
from recsys.online.behaviour_model import BehaviourModel
from recsys.online.model import OnlineModel
from recsys.online.open_state import check_state
from recsys.ranker.model import RankingModel
from recsys.serving.item_parsing import RequestItemColumns, item_columns

ServedFrom = Literal["registry", "cache"]
"""Whether the registry named the version, or the server took the last good one from its own folder."""


@dataclass(frozen=True)
class ServedModel:
    """A version over the online state. names: of its ranker and encoder, as NAME/VERSION, None for no encoder. columns:
    that items of requests may have. behaviour: the ranker without text of the same training, None where the version has
    none.
    """

    ranking_model: RankingModel
    online: OnlineModel
    names: Mapping[str, str | None]
    columns: RequestItemColumns
    source: ServedFrom = "registry"
    behaviour: BehaviourModel | None = None

    @classmethod
    def of(
        cls,
        ranking_model: RankingModel,
        state: OnlineState,
        *,
        ranker: str,
        encoder: str | None,
        source: ServedFrom = "registry",
        cached_texts: int,
        on_encoded: Callable[[int], object],
    ) -> ServedModel:
        """A loaded version over a state. cached_texts, on_encoded: as for `OnlineModel`.

        Raises StoreMismatch where the state does not keep what the version reads.
        """
        check_state(state, ranking_model.settings)
        online = OnlineModel.of(ranking_model, state, cached_texts=cached_texts, on_encoded=on_encoded)
        columns = item_columns(ranking_model.settings, state.settings)
        fallback = ranking_model.fallback
        behaviour = None if fallback is None else BehaviourModel(fallback, ranking_model, online.snapshots)
        return cls(ranking_model, online, {"ranker": ranker, "encoder": encoder}, columns, source, behaviour)

    @property
    def ranker(self) -> str:
        """NAME/VERSION of the ranker."""
        return str(self.names["ranker"])


@dataclass(frozen=True)
class RefusedVersion:
    """A version that is named but does not serve. version: NAME/VERSION. reason: one line."""

    version: str
    reason: str
