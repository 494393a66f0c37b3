"""`features.definitions.custom` under its former name: the features files of registered versions import it."""

from features.definitions.custom import *  # noqa: F403
