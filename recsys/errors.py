"""The errors of models and training; the root of the tree and the input errors are `features.errors`.

RecsysError
├── InputError, StoreError          features.errors
├── ConfigError                     a configuration key or value
├── TrainingError                   training cannot give a usable model
│   └── AuditFailed                 a feature leaks, so nothing is registered
├── ServerError                     the server cannot start
├── PromotionError                  a champion cannot be made or unmade
├── ComparisonError                 two evaluations that cannot be compared
├── DriftAlarm                      what comes is not what a version was evaluated on
├── RegistryUnreachable             MLflow does not answer, whatever it would say
├── WorkerDied                      a process or actor of a batch ended in the middle
└── ModelError                      a model cannot be found, loaded or used
    ├── ModelNotFound               no such registered model, version or alias
    │   └── ArtifactsUnavailable    the files of a registered version cannot be fetched
    ├── RunNotFound                 no such run, or it lacks the requested data
    └── EncoderMismatch             a ranker and an encoder that do not belong together
"""

from __future__ import annotations

from features.errors import RecsysError


class ConfigError(RecsysError, ValueError):
    """A configuration key is unknown or its value is out of range."""


class TrainingError(RecsysError):
    """Training cannot give a usable model from this data."""


class AuditFailed(TrainingError):
    """The leak audit found something, so nothing is registered; the message names the first finding."""


class ServerError(RecsysError):
    """The server cannot start: its port cannot be had."""


class ComparisonError(RecsysError):
    """Two evaluations have no lists or no metric in common."""


class PromotionError(RecsysError):
    """A version is not promoted, or there is nothing to roll back to."""


class DriftAlarm(RecsysError):
    """A column, a text or an online figure has left the range of a version's evaluation; the message names each."""


class RegistryUnreachable(RecsysError):
    """MLflow does not answer: its server or database cannot be reached."""


class WorkerDied(RecsysError):
    """A process of a batch, or an actor of a cluster, ended in the middle of its work."""


class ModelError(RecsysError):
    """A model cannot be found, loaded or used."""


class ModelNotFound(ModelError):
    """No registered model, version or alias of that name."""


class ArtifactsUnavailable(ModelNotFound):
    """The files of a registered version cannot be fetched now; another time they may be."""


class RunNotFound(ModelError):
    """No run of that id, or no evaluation, version or checkpoint of it."""


class EncoderMismatch(ModelError):
    """A ranker was given an encoder other than the one it was trained on."""
