"""The words of a features file under their former names: the features files of registered versions import them.

New files import `features.definitions.custom`.
"""

from features.definitions.custom import *  # noqa: F403
from features.definitions.custom import GLOBAL, WeightedCount
from features.definitions.event_measures import Feature as _Feature
from features.definitions.event_measures import FeatureFunction as _FeatureFunction

CATALOGUE = GLOBAL
Weighted = WeightedCount


def Feature(  # type: ignore[no-redef]
    name: str, doc: str, measure: _FeatureFunction, place: bool = False, monotone: int = 0
) -> _Feature:
    """A feature, whose `within_list` was called `place`."""
    return _Feature(name, doc, measure, within_list=place, monotone=monotone)
