"""The root of the error tree, and the errors of reading tables and of online state.

    RecsysError                 anything a caller may want to catch; its text is one line for a person
    ├── InputError              a file, table or field is not what it has to be
    ├── StoreError              the online store cannot be read or written
    │   ├── StoreMissing        there is no store, or an empty one
    │   ├── StoreMismatch       the store was made for something else
    │   └── TimeOrderError      a read at a time before the newest event of the store
    └── (recsys.errors)         models, versions, training

Every message has what was expected, what was found and what to do, and names the file, row or field.
"""

from __future__ import annotations


class RecsysError(Exception):
    """Root of every error that this project raises for its callers; the text is one line."""


class InputError(RecsysError, ValueError):
    """An input file, table, row or field is not usable."""


class StoreError(RecsysError):
    """The online store cannot be opened, read or written."""


class StoreMissing(StoreError):
    """There is no online store where one was expected, or an empty one."""


class StoreMismatch(StoreError):
    """The online store was made with other settings, or keeps less than is wanted."""


class TimeOrderError(StoreError):
    """A read at a time before the newest event of the store."""
