"""Rule `encoder_order`: no encoder scores a row that it was trained on.

Its labels must all be older than every row that it scores. The recorded times may be wrong, so the AUC is checked too:
an encoder ranks the lists it was trained on better than later ones. The text score's AUC therefore falls from the
encoder slice to the ranker slice, and hardly more to valid. If the encoder was trained on the ranker's labels, the AUC
falls from the ranker slice to valid, by more than `audit.text_auc_gap` and by more than before.
"""

from __future__ import annotations

from features.arrays import Int64
from recsys.audit.context import AuditContext, Rows
from recsys.audit.finding import Finding, RuleResult
from recsys.audit.rules.single_column_auc import auc_text, best_row, has_enough_data, slice_aucs, standard_error
from recsys.errors import TrainingError
from recsys.ranker.column_names import TEXT_SCORE
from recsys.training.text_models import check_no_label_leak

RULE = "encoder_order"
DEVIATIONS = 3.0
"""Standard errors that are subtracted from the fall before it is compared with the bound."""
MAX_TRAINING_LISTS = 2000
"""Lists of the encoder's own slice that are scored for comparison."""


def encoder_order(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    if TEXT_SCORE not in context.names:
        return RuleResult(RULE, "no column of an encoder is read")
    training, states = context.training, context.texts.states
    try:
        check_no_label_leak(states, int(training.log.impressions.requests.time[training.sliced.ranker[0]]))
    except TrainingError as error:
        impressions = training.log.impressions.take(training.sliced.ranker[:1])
        advice = "score every part of the log before the encoder learns it"
        return RuleResult(
            RULE, "times of the states", (Finding(RULE, TEXT_SCORE, str(error), advice, context.row(impressions, 0)),)
        )
    if all(state.trained_until is None for state in states):
        return RuleResult(RULE, "times of the states; the encoder was trained on no labels")
    return RuleResult(RULE, "times of the states, the text score's AUC by slice", tuple(_by_auc(context)))


def _by_auc(context: AuditContext) -> list[Finding]:
    settings = context.training.config
    column = context.names.index(TEXT_SCORE)
    trained_on = context.usable(
        training_impressions(context), most=min(MAX_TRAINING_LISTS, context.max_lists or MAX_TRAINING_LISTS)
    )
    if not len(trained_on) or not all(has_enough_data(context.slices[name]) for name in ("ranker", "valid")):
        return []
    rows = {"encoder": Rows(trained_on, context.columns(trained_on.requests)), **context.slices}
    resamples, seed = settings.evaluation.resamples, settings.seed
    aucs = {
        name: slice_aucs(rows[name], [column], resamples=resamples, seed=seed)[0]
        for name in ("encoder", "ranker", "valid")
    }
    fall = aucs["ranker"].mean - aucs["valid"].mean
    least = fall - DEVIATIONS * standard_error(aucs["ranker"], aucs["valid"])
    before = aucs["encoder"].mean - aucs["ranker"].mean
    if least <= settings.audit.text_auc_gap or fall <= before:
        return []
    return [
        Finding(
            RULE,
            TEXT_SCORE,
            f"it ranks the ranker slice better than valid by {fall:.3f} (at least {least:.3f}, expected at most "
            f"{settings.audit.text_auc_gap}) and the encoder's own lists by {before:.3f} only, {auc_text(aucs)}: the "
            "encoder seems to have been trained on the ranker's labels",
            "score every part of the log before the encoder learns it; a base model must not have seen any of it",
            best_row(context, rows["ranker"], column, ""),
        )
    ]


def training_impressions(context: AuditContext) -> Int64:
    """Positions of the newer half of what trains the encoder: its slice without the newest part, which validates."""
    slice_ = context.training.sliced.encoder
    end = round(len(slice_) * (1 - context.training.config.encoder.validation_share))
    return slice_[end // 2 : end]
