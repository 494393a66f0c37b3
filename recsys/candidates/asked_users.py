"""The users that candidates are found for, and what is known of them at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.arrays import Bool, Int32, Int64, Strings
from features.log import Log


@dataclass(frozen=True)
class AskedUsers:
    """n distinct users. ids: (n,). code: (n,) in the log, -1 for ids that it does not hold. known: (n,) whether the
    users table, or an event or impression before the time, has the user."""

    ids: Strings
    code: Int32
    known: Bool

    def __len__(self) -> int:
        return len(self.ids)

    def position(self, n_log_users: int) -> Int64:
        """(n_log_users,) which of these each user of the log is, -1 for none."""
        position = np.full(n_log_users, -1, np.int64)
        in_log = self.code >= 0
        position[self.code[in_log]] = np.flatnonzero(in_log)
        return position


def asked_users(log: Log, ids: Strings | None, described: Strings, as_of: int) -> AskedUsers:
    """The users of some distinct ids, or all that are known strictly before `as_of`, by id. described: ids of the users
    table."""
    events, shown = log.events, log.impressions.requests
    known = np.zeros(len(log.users) + 1, np.bool_)
    known[events.user[events.time < as_of]] = True
    known[shown.user[shown.time < as_of]] = True
    known[log.user_codes(described)] = True
    known[-1] = False
    code = np.flatnonzero(known).astype(np.int32) if ids is None else log.user_codes(ids)
    return AskedUsers(log.users[code] if ids is None else ids, code, known[code])
