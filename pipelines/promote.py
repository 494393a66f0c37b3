"""`recsys promote VERSION`: compare a version with the champion on unseen lists, and promote the better one.

Where there is no champion the version is compared with the baselines, and has to be worse than none of them.

Reads a data directory. Writes an MLflow run with the decision as `decision.json`, tags of the version, and, where the
challenger wins, the alias `champion`. What does not win leaves the champion as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import mlflow

from features.clock import format_time
from features.errors import InputError
from pipelines.unseen_data import UnseenData, load_unseen, trained_until
from recsys.config import Config
from recsys.errors import PromotionError
from recsys.evaluation.comparison import ComparedRun, ComparedRuns, Comparison, compare
from recsys.evaluation.latency import Rank, latency_requests, median_milliseconds
from recsys.evaluation.promotion_gate import REFUSED, AuditVerdict, Decision, Evidence, ServingCost, reasons_against
from recsys.evaluation.verdict import BASELINES, lifts_of
from recsys.metrics.bootstrap import Interval, count_clusters
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import aliases, run_logging, tracking
from recsys.registry.lookup import resolve
from recsys.registry.names import Version, is_version, ranker_name
from recsys.registry.run_queries import data_folder, run_of_version
from recsys.registry.versions import LoadedModel, artifact_bytes, load
from recsys.training.model_choice import RANKER

Audit = Callable[[LoadedModel, Path], AuditVerdict]
"""Looks for leaks of a version on a data directory."""

OUTCOME = "promotion.outcome"
MOVING = "about to move the alias"


def promote(
    version: str,
    config: Config,
    *,
    name: str = "recsys",
    folder: Path | None = None,
    audit: Audit | None = None,
    force: bool = False,
) -> Decision:
    """Measure a version against the champion, or the baselines, record the decision, and move the alias where it wins
    or `force` is set.

    version: a number of NAME-ranker, or a models:/ URI. folder: the data; by default what the version was trained on.
    Raises PromotionError where there is nothing to compare or the champion changed meanwhile, InputError for data.
    """
    experiment = tracking.connect()
    challenger = resolve(version if is_version(version) else f"models:/{ranker_name(name)}/{version}")
    champion = aliases.champion_of(challenger.name)
    if champion == challenger:
        raise PromotionError(f"{challenger} is the champion already")
    folder = folder or _trained_on(challenger)
    versions = [load(version.uri, evaluated=True) for version in (challenger, champion) if version is not None]
    opened = load_unseen(versions, folder, after=trained_until(versions), files=config.data.files)
    evidence = _evidence(opened, folder, config, audit)
    with tracking.run(experiment, f"promote {challenger}", parent=True) as run:
        decision = Decision(
            evidence=evidence,
            settings=config.promotion,
            reasons=reasons_against(evidence, config.promotion),
            forced=force,
            folder=str(folder.resolve()),
            fingerprint=opened[0].tables.fingerprint,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            run_id=run.info.run_id,
        )
        run_logging.log_dataset(folder, decision.fingerprint, "promotion")
        _decide(decision, challenger, champion)
    return decision


def _decide(decision: Decision, challenger: Version, champion: Version | None) -> None:
    """Record the decision and carry it out: figures first, then the alias, then the outcome."""
    tags = decision.tags()
    mlflow.set_tags({OUTCOME: decision.outcome, "ranker": challenger.uri})
    run_logging.log_report(decision.as_dict(), decision.lines(), "decision")
    aliases.set_version_tags(challenger, {**tags, OUTCOME: MOVING if decision.promoted else decision.outcome})
    if decision.promoted:
        try:
            aliases.promote(challenger, over=champion)
        except PromotionError as error:
            aliases.set_version_tags(challenger, {OUTCOME: REFUSED, "promotion.reasons": error})
            raise
        aliases.set_version_tags(challenger, {OUTCOME: decision.outcome})


def _evidence(opened: tuple[UnseenData, ...], folder: Path, config: Config, audit: Audit | None) -> Evidence:
    challenger, *champions = opened
    unseen = challenger.impressions.take(challenger.positions)
    return Evidence(
        challenger=challenger.loaded.ranker.uri,
        champion=champions[0].loaded.ranker.uri if champions else None,
        learnt_until=format_time(trained_until([data.loaded for data in opened])),
        n_lists=len(unseen),
        n_users=count_clusters(unseen.requests.user),
        comparison=_comparison(opened, config) if len(unseen) and champions else None,
        baselines=_baselines(challenger, config) if len(unseen) and not champions else {},
        costs=_costs(opened, config),
        audit=None if audit is None else audit(challenger.loaded, folder),
    )


def _comparison(opened: tuple[UnseenData, ...], config: Config) -> Comparison:
    sides = [
        ComparedRuns((ComparedRun(data.loaded.ranker.uri, data.evaluate(config).per_impression_frame()),))
        for data in opened
    ]
    return compare(*sides, resamples=config.evaluation.resamples, seed=config.seed)


def _baselines(challenger: UnseenData, config: Config) -> dict[str, Interval]:
    """nDCG@10 of a version less that of each baseline, list by list."""
    lifts = lifts_of(challenger.evaluate(config), RANKER, config.evaluation, config.seed)
    return {name: lift for name, lift in lifts.items() if name in BASELINES}


def _costs(opened: tuple[UnseenData, ...], config: Config) -> dict[str, ServingCost]:
    """Size and time of each version, the times taken in turn on the newest lists filled up to 100 candidates."""
    timed = [latency_requests(data.impressions.requests) for data in opened]
    spent = median_milliseconds(
        [(_ranking(data, config), requests) for data, requests in zip(opened, timed, strict=True)]
    )
    return {
        data.loaded.ranker.uri: ServingCost(_megabytes(data.loaded), milliseconds, int(requests.lengths().max()))
        for data, requests, milliseconds in zip(opened, timed, spent, strict=True)
    }


def _ranking(opened: UnseenData, config: Config) -> Rank:
    return OfflineScorer(opened.loaded.ranking_model, opened.index, opened.texts, config.serving.threads).scores


def _megabytes(loaded: LoadedModel) -> float:
    return sum(artifact_bytes(version) for version in (loaded.ranker, loaded.encoder) if version is not None) / 1e6


def _trained_on(version: Version) -> Path:
    folder = data_folder(run_of_version(version))
    if folder is None:
        raise InputError(
            f"the data directory that {version} was trained on is not there any more; name one with --data DIR, with "
            "lists later than all that either version learnt from"
        )
    return folder
