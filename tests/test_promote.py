"""The promotion gate on versions of the real pipeline: what it lets through, what it stops, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from trained_site import TrainedSite, tables_until

from features.errors import InputError
from features.tables.load import load_log
from pipelines import cli
from pipelines.audit import audit_version
from pipelines.promote import promote
from pipelines.rollback import rollback
from pipelines.train import train
from recsys.config import Config, load_config
from recsys.errors import ModelNotFound, PromotionError
from recsys.evaluation.promotion_gate import Decision
from recsys.registry import aliases, run_logging, tracking, versions
from recsys.registry.versions import CHALLENGER, CHAMPION, LoadedModel, Version

NAME = "gate"
MODEL = f"{NAME}-ranker"
WEAK, STRONG, EQUAL, LEAKING = "1", "2", "3", "4"
PATIENT = ("promotion.max_milliseconds=10000", "threads=1")
SETTINGS = ("evaluation.resamples=200", "promotion.min_lists=100", "promotion.min_users=50", *PATIENT)
STUMP = ("ranker.max_trees=1", "ranker.num_leaves=2", "ranker.feature_fraction=0.05")
TREES = ("ranker.max_trees=150", "ranker.learning_rate=0.1", "ranker.num_leaves=15", "ranker.min_data_in_leaf=20")
TOTAL = "total_clicks"


@dataclass(frozen=True)
class Verdict:
    passed: bool
    found: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        return list(self.found)


def audit(loaded: LoadedModel, folder: Path) -> Verdict:
    """An audit that finds nothing: the real one has tests of its own, and here where a version leaks."""
    return Verdict(True)


@pytest.fixture(scope="module")
def home(trained_once: TrainedSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's store with four versions of one name, trained on a site of 8,000 lists whose items tell the clicks
    that they will have had in the end: a stump, many trees, the stump again, and many trees that read the total."""
    from pipelines.simulate import simulate

    data = tmp_path_factory.mktemp("gate") / "data"
    simulate(data, users=300, items=120, impressions=8_000, seed=5)
    log, _ = load_log(data)
    items = pd.read_parquet(data / "items.parquet")
    total = np.bincount(log.events.item[log.events.positive], minlength=len(log.catalog))
    items[TOTAL] = total[log.catalog.codes(items["item_id"].to_numpy(object))].astype(float)
    items.to_parquet(data / "items.parquet")
    base = (f"encoder.base_model={trained_once.base}", "encoder.head_epochs=1", "encoder.fine_tune_epochs=0")
    small = (
        "encoder.max_tokens=24",
        "encoder.min_impressions=200",
        "registered=ranker",
        "encoder.dtype=float32",
        "ranker.min_data_in_leaf=5",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(trained_once.home)
        for extra in (STUMP, TREES):
            train(data, load_config(None, (*SETTINGS, *base, *small, *extra)), name=NAME)
        register_again(f"models:/{MODEL}/{WEAK}", data)
        leaking = (*TREES, f"features.numbers=[{TOTAL}]", f"features.allow_known_after=[{TOTAL}]")
        train(data, load_config(None, (*SETTINGS, *base, *small, *leaking)), name=NAME)
    return data


def register_again(uri: str, data: Path) -> None:
    """The same unit as a further version."""
    ranking_model, evaluated = (versions.load(uri, evaluated=one).ranking_model for one in (False, True))
    rows, fallback_rows = (
        np.zeros((2, len(columns)), np.float32)
        for columns in (ranking_model.settings.columns, ranking_model.settings.fallback_columns)
    )
    with tracking.run(tracking.connect(), "again", parent=True):
        run_logging.log_dataset(data, ranking_model.settings.data_fingerprint, "training")
        versions.log_ranker(ranking_model, NAME, rows, evaluated=evaluated, fallback_rows=fallback_rows)


@pytest.fixture
def data(home: Path, trained: TrainedSite) -> Iterator[Path]:
    """The data, with version 1 as champion and no history."""
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(MODEL, CHAMPION, WEAK)
    client.set_registered_model_alias(MODEL, CHALLENGER, STRONG)
    client.set_registered_model_tag(MODEL, aliases.PREVIOUS, "")
    yield home


def settings(*more: str) -> Config:
    return load_config(None, (*SETTINGS, *more))


def champion() -> str:
    return versions.resolve(f"models:/{MODEL}@champion").number


def tags(number: str) -> dict[str, str]:
    return dict(mlflow.MlflowClient().get_model_version(MODEL, number).tags)


def decided(number: str, *more: str, **options: object) -> Decision:
    return promote(number, settings(*more), name=NAME, **{"audit": audit, **options})  # type: ignore[arg-type]


def test_a_truly_better_challenger_is_promoted_with_its_figures(data: Path) -> None:
    decision = decided(STRONG, audit=partial(audit_version, config=settings()))
    assert (decision.outcome, decision.reasons) == ("promoted", ())
    assert champion() == STRONG
    assert versions.load(f"models:/{MODEL}@champion").ranker.number == STRONG
    assert CHALLENGER not in mlflow.MlflowClient().get_registered_model(MODEL).aliases
    comparison = decision.evidence.comparison
    assert comparison is not None and comparison.difference.low > 0
    written = tags(STRONG)
    assert written["promotion.outcome"] == "promoted"
    assert written["promotion.champion"] == f"models:/{MODEL}/{WEAK}"
    assert float(written["promotion.difference.low"]) == comparison.difference.low
    assert written["promotion.lists"] == str(decision.evidence.n_lists)
    assert written["promotion.audit"] == "passed"
    assert written["promotion.forced"] == "false"
    assert float(written["promotion.milliseconds"]) > 0
    artifact = mlflow.artifacts.load_dict(f"runs:/{written['promotion.run_id']}/decision.json")
    assert artifact == json.loads(json.dumps(decision.as_dict(), allow_nan=False))
    assert (
        artifact["data"]["fingerprint"] == versions.load(f"models:/{MODEL}/1").ranking_model.settings.data_fingerprint
    )


def test_only_lists_after_what_either_version_learnt_from_decide(data: Path) -> None:
    decision = decided(STRONG)
    comparison = decision.evidence.comparison
    assert comparison is not None
    until = max(
        versions.load(f"models:/{MODEL}/{one}", evaluated=True).ranking_model.settings.trained_until
        for one in (WEAK, STRONG)
    )
    times = comparison.a.runs[0].frame["time"]
    assert times.min() > pd.Timestamp(until, unit="us", tz="UTC")
    assert len(times) == decision.evidence.n_lists


def test_a_challenger_equal_to_the_champion_is_refused(data: Path) -> None:
    decision = decided(EQUAL)
    assert decision.outcome == "refused"
    assert len(decision.reasons) == 1
    assert "+.000 [+.000, +.000]: the lower end, +0.0000, is not above the margin" in decision.reasons[0]
    assert champion() == WEAK
    assert tags(EQUAL)["promotion.outcome"] == "refused"


def test_a_worse_challenger_is_refused(data: Path) -> None:
    mlflow.MlflowClient().set_registered_model_alias(MODEL, CHAMPION, STRONG)
    assert decided(WEAK).outcome == "refused"
    assert champion() == STRONG


def test_a_better_one_is_refused_below_the_margin(data: Path) -> None:
    decision = decided(STRONG, "promotion.margin=0.5")
    assert [reason for reason in decision.reasons if "promotion.margin" in reason] == list(decision.reasons)
    assert champion() == WEAK


def test_a_challenger_that_leaks_is_stopped_by_the_audit_though_it_looks_better(data: Path) -> None:
    decision = decided(LEAKING, audit=partial(audit_version, config=settings()))
    assert decision.outcome == "refused"
    assert decision.evidence.comparison is not None
    assert decision.evidence.comparison.difference.low > 0
    assert len(decision.reasons) == 1
    assert "the leak audit found something" in decision.reasons[0]
    assert f"item_{TOTAL}" in decision.reasons[0]
    assert champion() == WEAK
    assert tags(LEAKING)["promotion.audit"] == "failed"


def test_without_an_audit_nothing_is_promoted(data: Path) -> None:
    decision = decided(STRONG, audit=None)
    assert decision.reasons == ("the leak audit was not run",)
    assert champion() == WEAK


def test_data_that_overlaps_with_what_was_learnt_from_is_refused_with_the_reason(data: Path, tmp_path: Path) -> None:
    until = versions.load(f"models:/{MODEL}/{STRONG}", evaluated=True).ranking_model.settings.trained_until
    decision = decided(STRONG, folder=tables_until(data, tmp_path / "older", until))
    assert decision.evidence.n_lists == 0
    assert len(decision.reasons) == 1
    assert decision.reasons[0].startswith("too little to judge by: 0 lists of 0 users later than every label")
    assert "overlap with what was learnt from" in decision.reasons[0]
    assert champion() == WEAK


def test_too_few_later_lists_are_refused(data: Path) -> None:
    for more in ("promotion.min_lists=100000", "promotion.min_users=100000"):
        decision = decided(STRONG, more)
        assert len(decision.reasons) == 1
        assert decision.reasons[0].startswith("too little to judge by")


def test_size_and_latency_have_budgets(data: Path) -> None:
    decision = decided(STRONG, "promotion.max_megabytes=0.01", "promotion.max_milliseconds=0.001")
    assert [reason.split("(")[-1] for reason in decision.reasons] == [
        "promotion.max_megabytes)",
        "promotion.max_milliseconds)",
    ]
    assert {cost.candidates for cost in decision.evidence.costs.values()} == {100}
    assert champion() == WEAK


def test_force_promotes_and_says_so(data: Path) -> None:
    decision = decided(EQUAL, force=True, audit=None)
    assert decision.outcome == "forced"
    assert champion() == EQUAL
    written = tags(EQUAL)
    assert (written["promotion.outcome"], written["promotion.forced"]) == ("forced", "true")
    assert "is not above the margin" in written["promotion.reasons"]
    assert "the leak audit was not run" in written["promotion.reasons"]


def test_rollback_undoes_promotions_one_after_the_other(data: Path) -> None:
    for number in (STRONG, EQUAL, WEAK):
        make_champion(number)
    assert champion() == WEAK
    undone = [rollback(name=NAME) for _ in range(3)]
    assert [(one.undone.number, one.champion.number) for one in undone] == [
        (WEAK, EQUAL),
        (EQUAL, STRONG),
        (STRONG, WEAK),
    ]
    assert champion() == WEAK
    assert "promotion.rolled_back" in tags(STRONG)
    with pytest.raises(PromotionError, match="nothing to roll back to"):
        rollback(name=NAME)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_promotion_killed_at_the_alias_leaves_the_old_or_the_new_champion(
    data: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", killed(after=after))
        with pytest.raises(KeyboardInterrupt):
            decided(STRONG)
    assert champion() == (STRONG if after else WEAK)
    assert tags(STRONG)["promotion.outcome"] == "about to move the alias"
    if after:
        assert rollback(name=NAME).champion.number == WEAK
    else:
        with pytest.raises(PromotionError, match="nothing to roll back to"):
            rollback(name=NAME)
        make_champion(STRONG)
        assert rollback(name=NAME).champion.number == WEAK
    with pytest.raises(PromotionError, match="nothing to roll back to"):
        rollback(name=NAME)


def test_a_rollback_killed_after_the_alias_moved_is_not_made_twice(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_champion(STRONG)
    make_champion(EQUAL)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", killed(after=True))
        with pytest.raises(KeyboardInterrupt):
            rollback(name=NAME)
    assert champion() == STRONG
    assert rollback(name=NAME).champion.number == WEAK


def test_the_second_of_two_promotions_sees_the_first(data: Path) -> None:
    def meanwhile(loaded: LoadedModel, folder: Path) -> Verdict:
        aliases.promote(Version(MODEL, EQUAL), over=Version(MODEL, WEAK))
        return Verdict(True)

    with pytest.raises(PromotionError, match=rf"was {MODEL}/1 when {MODEL}/2 was measured and is {MODEL}/3 now"):
        decided(STRONG, audit=meanwhile)
    assert champion() == EQUAL
    assert tags(STRONG)["promotion.outcome"] == "refused"
    assert rollback(name=NAME).champion.number == WEAK


def test_what_cannot_be_promoted_is_one_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PromotionError, match="is the champion already"):
        decided(WEAK)
    with pytest.raises(ModelNotFound, match="has no version 99; it has the versions 1"):
        decided("99")
    with pytest.raises(ModelNotFound, match="'nobody-ranker'"):
        rollback(name="nobody")
    monkeypatch.setattr("pipelines.promote.data_folder", lambda run_id: None)
    with pytest.raises(InputError, match="name one with --data DIR"):
        decided(STRONG)


def test_a_uri_names_a_version_too(data: Path) -> None:
    decision = promote(f"models:/{MODEL}@challenger", settings(), audit=audit)
    assert decision.evidence.challenger == f"models:/{MODEL}/{STRONG}"
    assert decision.promoted


def test_the_commands_refuse_with_1_promote_by_force_and_roll_back(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [part for one in SETTINGS for part in ("--set", one)]
    asked = ["promote", STRONG, "--name", NAME, *chosen, "--json", str(tmp_path / "decision.json")]
    demanding = [*asked, "--set", "promotion.margin=0.9"]
    assert cli.run(lambda: cli.cli(demanding, standalone_mode=False)) == 1
    refused = capsys.readouterr()
    assert f"refused: models:/{MODEL}/1 stays the champion" in refused.out
    assert refused.err.strip().splitlines()[-1].startswith(f"error: models:/{MODEL}/2 is not promoted: ")
    assert json.loads((tmp_path / "decision.json").read_text())["outcome"] == "refused"
    assert cli.run(lambda: cli.cli([*asked, "--force"], standalone_mode=False)) == 0
    assert champion() == STRONG
    assert cli.run(lambda: cli.cli(["rollback", "--name", NAME], standalone_mode=False)) == 0
    assert f"{MODEL}/1 is the champion again" in capsys.readouterr().out
    assert champion() == WEAK


def make_champion(number: str) -> None:
    aliases.promote(Version(MODEL, number), over=aliases.champion_of(MODEL))


def killed(*, after: bool) -> Callable[..., None]:
    """The writing of an alias, cut off before or after it."""
    write = mlflow.MlflowClient.set_registered_model_alias

    def cut_off(self: mlflow.MlflowClient, name: str, alias: str, version: str) -> None:
        if after:
            write(self, name, alias, version)
        raise KeyboardInterrupt

    return cut_off
