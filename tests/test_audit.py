"""The leak audit: each planted leak is found by its rule, with a row that shows it, and honest features pass."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audited_site import clicks_of_item, planted, site_context, site_folder, tiny_base, with_feature
from tiny_encoder import PLAIN, TOPICS, catalog_of, save_tiny_bert, tiny_config

from features.clock import HOUR
from features.definitions.aggregates import CLICK, USER_ITEM, Last
from features.definitions.attribute_measures import ItemNumber
from features.definitions.builtin import catalogue
from features.definitions.event_measures import AFTER_THE_FACT, ElapsedIntervals, Feature, Recency, UsualInterval
from features.log import Events, Impressions, Log, Requests
from features.offline.reader import LogIndex, OfflineReader
from features.tables.mind import import_mind
from pipelines.audit import training_context
from recsys.audit.context import AuditContext
from recsys.audit.finding import RuleResult
from recsys.audit.rules.declared_availability import declared_availability
from recsys.audit.rules.encoder_order import encoder_order
from recsys.audit.rules.future_injection import forbidden_times, future_injection
from recsys.audit.rules.permuted_labels import permuted_labels
from recsys.audit.rules.sampled_impressions import sampled_impressions
from recsys.audit.rules.single_column_auc import outlier_slice, single_column_auc
from recsys.audit.rules.static_columns import static_columns
from recsys.audit.run import AUDIT, TRAINING_RULES, audit, raise_if_failed
from recsys.encoder.snapshots import ScheduledEncoder
from recsys.encoder.text import item_texts
from recsys.encoder.training.train import train_encoder
from recsys.errors import AuditFailed
from recsys.metrics.bootstrap import Interval
from recsys.ranker.text_snapshots import RepresentationSchedule
from recsys.training.context import TrainingContext, make_context
from recsys.training.text_models import encoder_schedule, lexical_stage

SHARED = ("movielens", "amazon-office", "amazon-bundles", "mind-sample")


@pytest.fixture
def context() -> AuditContext:
    return site_context()


def found(outcome: RuleResult, feature: str) -> str:
    """What a rule says of the one feature that it found, whose row it shows."""
    assert [finding.feature for finding in outcome.findings] == [feature]
    assert outcome.findings[0].row is not None
    return outcome.findings[0].evidence


@pytest.mark.kernels
def test_the_built_in_catalogue_passes_every_rule(context: AuditContext) -> None:
    report = audit(context)
    assert report.findings == ()
    assert len(report.checked) == len(AUDIT)
    assert report.lines()[-1] == f"0 findings in {len(AUDIT)} rules over {len(context.names)} columns"


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_the_built_in_catalogue_passes_on_real_data(name: str, shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / name
    if name == "mind-sample":
        import_mind(data, tmp_path / "mind")
        data = tmp_path / "mind"
    config = tiny_base(tmp_path / "base", data, "ranker.max_trees=60")
    report = audit(replace(training_context(data, config), max_lists=1000))
    assert report.findings == (), "\n".join(report.lines())


def test_a_count_that_includes_time_t_is_found(context: AuditContext) -> None:
    late = planted("item_clicks_late", lambda reader: clicks_of_item(reader.index.log, reader.requests, until=0))
    outcome = future_injection(with_feature(context, late))
    assert "changed after events and lists at or after the request time were replaced" in found(
        outcome, "item_clicks_late"
    )
    row = outcome.findings[0].row
    assert row is not None
    assert row.before is not None
    assert row.after is not None
    assert row.after > row.before


@pytest.mark.kernels
def test_a_count_strictly_before_t_is_not_found(context: AuditContext) -> None:
    strict = planted("item_clicks_strict", lambda reader: clicks_of_item(reader.index.log, reader.requests, until=-1))
    assert future_injection(with_feature(context, strict)).findings == ()


def test_with_an_event_delay_a_count_up_to_t_is_found(context: AuditContext) -> None:
    data = context.training.config.data.model_copy(update={"event_delay_seconds": 600.0})
    config = context.training.config.model_copy(update={"data": data})
    delayed = replace(context, training=make_context(config, context.log))
    strict = planted("item_clicks_strict", lambda reader: clicks_of_item(reader.index.log, reader.requests, until=-1))
    assert future_injection(delayed).findings == ()
    found(future_injection(with_feature(delayed, strict)), "item_clicks_strict")


@pytest.mark.parametrize(
    "measure",
    [Recency(Last(CLICK, USER_ITEM)), UsualInterval(CLICK, USER_ITEM), ElapsedIntervals(CLICK, USER_ITEM)],
    ids=lambda measure: type(measure).__name__,
)
def test_a_repeat_column_that_counts_the_click_itself_is_found(
    context: AuditContext, measure: Recency | UsualInterval | ElapsedIntervals
) -> None:
    def including_time_t(reader: OfflineReader) -> np.ndarray:
        return measure.compute(reader.index.reader(replace(reader.requests, time=reader.requests.time + 1)))

    found(future_injection(with_feature(context, planted("user_item_late", including_time_t))), "user_item_late")


def test_forbidden_times_begin_at_t_minus_the_delay() -> None:
    assert forbidden_times(1000, 0)[:2].tolist() == [1000, 1001]
    assert forbidden_times(1000, 600)[:4].tolist() == [400, 401, 700, 1000]


def rate_over_everything(reader: OfflineReader) -> np.ndarray:
    lists = reader.index.log.impressions.requests
    shown = np.bincount(lists.item, minlength=len(reader.index.log.catalog))[reader.requests.item]
    return clicks_of_item(reader.index.log, reader.requests, until=None) / np.maximum(shown, 1)


def test_a_rate_over_the_whole_log_is_found(context: AuditContext) -> None:
    found(future_injection(with_feature(context, planted("item_rate", rate_over_everything))), "item_rate")


def target_encoding(context: AuditContext, slice_name: str) -> Feature:
    """The mean label of each item in the lists of one slice."""
    lists = context.slices[slice_name].impressions
    shown = np.bincount(lists.requests.item, minlength=len(context.log.catalog))
    clicked = np.bincount(lists.requests.item, weights=lists.label > 0, minlength=len(context.log.catalog))
    encoded = (clicked + 1) / (shown + 10)
    return planted("item_target", lambda reader: encoded[reader.requests.item])


@pytest.mark.parametrize("slice_name", ["ranker", "valid", "test"])
def test_a_target_encoding_fitted_on_any_slice_that_is_ranked_is_found(context: AuditContext, slice_name: str) -> None:
    outcome = single_column_auc(with_feature(context, target_encoding(context, slice_name)))
    assert "than the other slices" in found(outcome, "item_target")


def test_a_column_that_changes_as_time_goes_by_is_not_taken_for_a_target_encoding() -> None:
    drifting = {
        name: Interval(mean, mean - 0.01, mean + 0.01) for name, mean in zip("abc", (0.5, 0.6, 0.7), strict=True)
    }
    odd = outlier_slice(drifting)
    assert odd is not None
    assert odd.low == pytest.approx(0.1 - 4 * 0.01 * 2**0.5 / 1.96)
    peak = outlier_slice(drifting | {"c": Interval(0.5, 0.49, 0.51)})
    assert peak is not None
    assert (peak.name, peak.mean) == ("b", pytest.approx(0.1))


def own_label(reader: OfflineReader) -> np.ndarray:
    """Whether the list's user clicks the candidate within the hour that begins at t."""
    events, requests = reader.index.log.events, reader.requests
    key = np.lexsort((events.time, events.item, events.user))
    pairs = list(zip(events.user[key].tolist(), events.item[key].tolist(), events.time[key].tolist(), strict=True))
    times: dict[tuple[int, int], list[int]] = {}
    for user, item, time in pairs:
        times.setdefault((user, item), []).append(time)
    rows = zip(requests.row_user().tolist(), requests.item.tolist(), requests.row_time().tolist(), strict=True)
    return np.array([any(0 <= one - t < HOUR for one in times.get((user, item), ())) for user, item, t in rows], float)


def test_a_column_that_is_the_label_is_found_by_its_auc_and_by_permuted_clicks(context: AuditContext) -> None:
    leaking = with_feature(context, planted("item_label", own_label))
    assert "nearly perfectly" in found(single_column_auc(leaking), "item_label")
    by_permutation = permuted_labels(leaking).findings
    assert [finding.feature for finding in by_permutation] == ["item_label", ""]
    assert "beats a random order on permuted test" in by_permutation[1].evidence


def test_a_value_that_is_missing_for_what_is_not_clicked_is_found(context: AuditContext) -> None:
    feature = planted("item_seen", lambda reader: np.where(own_label(reader) > 0, 7.0, np.nan))
    assert "whether it is missing says too much" in found(
        single_column_auc(with_feature(context, feature)), "item_seen"
    )


def with_number(context: AuditContext, name: str, values: np.ndarray) -> AuditContext:
    """The context with a numeric item column as a feature. values: (n_items,)."""
    catalog = replace(context.log.catalog, numbers={name: np.append(values, np.nan)})
    log = replace(context.log, catalog=catalog)
    training = replace(context.training, log=log, index=LogIndex(log, context.training.index.settings))
    return with_feature(
        replace(context, training=training), Feature(f"item_{name}", "Planted.", ItemNumber(name), within_list=True)
    )


def total_sales(context: AuditContext) -> np.ndarray:
    events = context.log.events
    return np.bincount(events.item[events.positive], minlength=len(context.log.catalog)).astype(float)


def configured(context: AuditContext, **features: object) -> AuditContext:
    config = context.training.config
    changed = config.model_copy(update={"features": config.features.model_copy(update=features)})
    return replace(context, training=replace(context.training, config=changed))


def test_item_totals_taken_at_the_end_of_the_log_are_found(context: AuditContext) -> None:
    outcome = static_columns(with_number(context, "total_sales", total_sales(context)))
    assert "column 'total_sales' ranks the events after" in found(outcome, "item_total_sales")
    assert "known_at={total_sales: publication}" in outcome.findings[0].advice


def test_a_number_that_says_nothing_of_later_events_passes(context: AuditContext) -> None:
    noise = np.random.default_rng(0).normal(size=len(context.log.catalog))
    assert static_columns(with_number(context, "weight", noise)).findings == ()


def test_a_declared_column_is_not_tested(context: AuditContext) -> None:
    leaking = with_number(context, "total_sales", total_sales(context))
    outcome = static_columns(configured(leaking, known_at={"total_sales": "publication"}))
    assert outcome.findings == ()
    assert outcome.examined == "0 undeclared numeric columns of items and users, 1 declared"


def test_user_totals_taken_at_the_end_of_the_log_are_found(context: AuditContext) -> None:
    import pandas as pd

    events = context.log.events
    totals = np.bincount(events.user[events.user >= 0], minlength=len(context.log.users))
    log = replace(context.log, attributes=pd.DataFrame({"orders": totals}))
    feature = Feature("user_orders", "Planted.", ItemNumber("orders"))
    leaking = replace(context, training=replace(context.training, log=log), features=(feature,))
    found(static_columns(leaking), "user_orders")


def test_what_is_known_afterwards_is_refused_unless_asked_for(context: AuditContext) -> None:
    leaking = with_feature(context, planted("item_label", own_label, available_from=AFTER_THE_FACT))
    assert "known at 'afterwards'" in declared_availability(leaking).findings[0].evidence
    allowed = configured(leaking, allow_known_after=("item_label",))
    report = audit(allowed)
    assert report.findings == ()
    assert report.gains["item_label"].low > 0.1
    assert any("item_label adds +0" in line for line in report.lines())


def test_a_column_declared_to_be_known_afterwards_is_refused(context: AuditContext) -> None:
    leaking = with_number(context, "total_sales", total_sales(context))
    outcome = declared_availability(configured(leaking, known_at={"total_sales": "afterwards"}))
    assert [finding.feature for finding in outcome.findings] == ["item_total_sales"]


def shown_at_all(reader: OfflineReader) -> np.ndarray:
    """Lists that showed the item before t, sampled ones too."""
    lists = reader.index.log.impressions.requests
    order = np.argsort(lists.item, kind="stable")
    item, time = lists.item[order], lists.row_time()[order]
    first, end = (np.searchsorted(item, reader.requests.item, side=side) for side in ("left", "right"))
    rows = zip(first, end, reader.requests.row_time(), strict=True)
    return np.array([np.searchsorted(time[a:b], moment) for a, b, moment in rows], np.float64)


def test_an_impression_count_over_sampled_lists_is_found(context: AuditContext) -> None:
    outcome = sampled_impressions(with_feature(context, planted("item_shown", shown_at_all)))
    assert "after sampled lists were added" in found(outcome, "item_shown")


def changing_log(n_lists: int = 1200) -> Log:
    """A log in which everybody clicks items of some words beside items of others, and the other way round from part to
    part: what is learnt of one is wrong in the next."""
    generator = np.random.default_rng(0)
    words = [word for topic in TOPICS for word in topic]
    titles = [f"{plain} {word}" for word in words for plain in PLAIN]
    word_of = np.repeat(np.arange(len(words)), len(PLAIN))
    slice_of = np.searchsorted([0.25, 0.5, 0.75], np.arange(n_lists) / n_lists, side="right")
    item = np.empty((n_lists, 6), np.int32)
    for place, odd in enumerate(slice_of % 2 == 1):
        item[place, 0] = generator.choice(np.flatnonzero((word_of < 4) & ((word_of < 2) != odd)))
        item[place, 1:] = generator.choice(np.flatnonzero((word_of < 4) & ((word_of < 2) == odd)), 5, replace=False)
    label = np.tile(np.array([1, 0, 0, 0, 0, 0], np.int8), n_lists)
    user, time = generator.integers(0, 60, n_lists).astype(np.int32), np.arange(n_lists, dtype=np.int64) * HOUR
    requests = Requests(user, time, np.arange(0, 6 * n_lists + 1, 6, dtype=np.int64), item.ravel())
    ids = np.array([f"i{place}" for place in range(n_lists)], object)
    shown = Impressions(requests, ids, np.zeros(n_lists, bool), label, np.zeros(6 * n_lists, np.int32))
    yes, kind = np.ones(n_lists, bool), np.zeros(n_lists, np.int8)
    users = np.array([f"u{place:02d}" for place in range(60)], object)
    return Log(catalog_of(titles), users, Events(user, item[:, 0], time + 1, kind, ("click",), yes, yes), shown)


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> TrainingContext:
    base = save_tiny_bert(tmp_path_factory.mktemp("bert"))
    settings = (
        "encoder.fine_tune_epochs=0",
        "encoder.head_epochs=6",
        "encoder.chunk_epochs=6",
        "encoder.progressive_chunks=2",
        "encoder.rehearsal_ratio=0",
    )
    config = tiny_config(base, *settings, "evaluation.resamples=200")
    log = changing_log()
    return make_context(config, log)


def encoded(chain: TrainingContext, states: tuple[ScheduledEncoder, ...]) -> AuditContext:
    lexical, texts = lexical_stage(chain), item_texts(chain.log.catalog, chain.config.encoder.template)
    return AuditContext(
        chain, catalogue(categories={}), lexical, RepresentationSchedule(states, texts, lexical.transform(texts), None)
    )


@pytest.fixture(scope="module")
def states(changing: TrainingContext) -> tuple[ScheduledEncoder, ...]:
    course = encoder_schedule(changing.log.impressions, changing.sliced, changing.config)
    return train_encoder(changing.log, course, changing.config).states


def test_a_part_that_was_scored_after_training_on_it_is_found_though_its_times_look_right(
    changing: TrainingContext, states: tuple[ScheduledEncoder, ...]
) -> None:
    late = [replace(state, model=later.model) for state, later in itertools.pairwise(states)]
    outcome = encoder_order(encoded(changing, (*late, states[-1])))
    assert "ranks the ranker slice better than valid" in found(outcome, "text_score")


def test_a_part_that_was_scored_after_training_on_it_is_found_by_its_times(
    changing: TrainingContext, states: tuple[ScheduledEncoder, ...]
) -> None:
    late = replace(states[1], trained_until=states[2].trained_until)
    outcome = encoder_order(encoded(changing, (states[0], late, states[2])))
    assert "would leak the labels" in found(outcome, "text_score")


def test_an_encoder_that_scored_every_part_before_it_learnt_it_passes(
    changing: TrainingContext, states: tuple[ScheduledEncoder, ...]
) -> None:
    assert len(states) == 4
    outcome = encoder_order(encoded(changing, states))
    assert outcome.findings == ()
    assert "the text score's AUC" in outcome.examined


def test_the_places_of_a_leaking_feature_are_told_with_it(context: AuditContext) -> None:
    late = planted("item_clicks_late", lambda reader: clicks_of_item(reader.index.log, reader.requests, until=0))
    outcome = future_injection(with_feature(context, replace(late, within_list=True)))
    found(outcome, "item_clicks_late")


def test_a_failing_audit_names_the_first_finding_and_what_to_do(context: AuditContext) -> None:
    late = planted("item_clicks_late", lambda reader: clicks_of_item(reader.index.log, reader.requests, until=0))
    report = audit(with_feature(context, late), TRAINING_RULES)
    assert not report.passed
    assert report.lines()[-1] == f"1 finding in {len(TRAINING_RULES)} rules over {len(context.names) + 1} columns"
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["findings"][0]["row"]["impression_id"]
    with pytest.raises(AuditFailed, match=r"nothing is registered: item_clicks_late breaks rule 'injection'.*count"):
        raise_if_failed(report)
    raise_if_failed(replace(report, checked=()))


@pytest.mark.slow
def test_full_trains_the_encoder_on_permuted_clicks(context: AuditContext) -> None:
    folder, config = site_folder()
    full = training_context(folder, config, full=True)
    assert permuted_labels(full).findings == ()
