"""Tags of MLflow's runs, by which they are found, listed and compared. It uses no MLflow."""

from __future__ import annotations

TRAINING = "recsys.training"
"""Of a training's run: NAME of the models, as in NAME-ranker."""

STAGE = "recsys.stage"
"""Of a child run of a training: what it holds, such as `evaluation`."""

RANKER = "ranker"
"""URI of the ranker version that a run registered, or that it evaluates where another run trained it."""

TRAINED_UNTIL = "trained_until"
"""Of an evaluation's run: microseconds of the newest label that its version was trained on."""

FORMAT_TAG, FORMAT = "evaluation.format", "1"
"""Of an evaluation's run: the format of its lists. Runs without it are of the first format."""

DATA_NAME, DATA_FINGERPRINT = "data.name", "data.fingerprint"
"""Of a training's run: name of the folder that it read, and fingerprint of the tables in it."""

CONFIG_HASH = "config.hash"
"""Of a training's run: the same for trainings whose settings differ in the seed at most."""

GIT_COMMIT = "git.commit"
"""Of a training's run: of this project's code, where it lies in a git repository."""

ENVIRONMENT = "env."
"""Prefix of the tags that say on what a training ran: versions of libraries, the processor, the arithmetic."""

ORIGIN = (DATA_NAME, DATA_FINGERPRINT, GIT_COMMIT, ENVIRONMENT)
"""Beginnings of the tags that say where a training comes from, beside its settings."""

TEXT_LIFT = "text_lift"
"""Of a training's run: what text adds to the ranker's nDCG@10 on test, with its interval."""

ENCODER_FINGERPRINT, RANKER_FINGERPRINT = "encoder.fingerprint", "ranker.fingerprint"
"""Of a training's run: equal for models of equal bits, as they were evaluated."""

REPRODUCES = "reproduces"
"""Of a run of `recsys reproduce`: id of the run that it repeats."""

AUDIT_FINDINGS = "audit.findings"
"""Of a training's run: the number of findings of its audit."""

MAIN_METRIC = "test.ranker.ndcg_at_10"
"""Metric of a training's run that MLflow's charts begin with."""
