"""`recsys data …` and `recsys features list`: commands on tables before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from features.tables.encodings import FileOptions
from pipelines.cli_options import (
    Report,
    file_options,
    json_option,
    positive_option,
    rejects_option,
    table_options,
)
from pipelines.cli_types import FOLDER, INPUT, OUT_FOLDER, CheckedGroup, agreeing

if TYPE_CHECKING:
    from recsys.config import Config


@click.group(cls=CheckedGroup)
def data() -> None:
    """Import, simulate and check input tables."""


@data.command("import")
@click.argument("layout", type=click.Choice(["mind"]))
@click.argument("source", metavar="SRC", type=FOLDER)
@click.argument("out", metavar="OUT", type=OUT_FOLDER)
@file_options
@json_option
def data_import(layout: str, source: Path, out: Path, files: FileOptions) -> Report:
    """Turn a data set in another LAYOUT into the native tables."""
    from features.tables.mind import import_mind

    return import_mind(source, out, files)


@data.command()
@click.argument("out", metavar="OUT", type=OUT_FOLDER)
@click.option("--users", default=2_000, show_default=True, type=click.IntRange(min=1))
@click.option("--items", default=1_000, show_default=True, type=click.IntRange(min=60))
@click.option("--impressions", default=20_000, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--language", default="en", show_default=True, type=click.Choice(["en", "zh"]), help="Of the texts.")
@json_option
def simulate(out: Path, users: int, items: int, impressions: int, seed: int, language: str) -> Report:
    """Write the tables of a simulated news site, and the truth behind its clicks."""
    from pipelines.simulate import simulate as run_simulation

    return run_simulation(out, users=users, items=items, impressions=impressions, seed=seed, language=language)


@data.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@rejects_option
@table_options
@json_option
def validate(folder: Path, rejects: Path | None, config: Config) -> Report:
    """Check the tables in DIR and say what is wrong with them."""
    from features.tables.load import load_log
    from pipelines.data_options import read_options
    from recsys.ranker.column_names import RESERVED_COLUMNS
    from recsys.ranker.features import check_features

    log, report = load_log(folder, read_options(config), rejects=rejects)
    check_features(config, log, RESERVED_COLUMNS)
    return report


_EVEN_SHARES = {"popularity": 0.0, "mixed": 0.5, "uniform": 1.0}


def _check_share(context: click.Context) -> None:
    if context.params["uniform_share"] is not None and context.params["negatives"] != "mixed":
        raise click.UsageError("--uniform-share is for --negatives mixed; leave one of the two out")


@data.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--size", default=20, show_default=True, type=click.IntRange(min=2), help="Candidates of a list.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--repeats/--no-repeats",
    default=True,
    show_default=True,
    help="Lists for clicks on items that the user has touched before, too.",
)
@click.option(
    "--negatives",
    default="mixed",
    show_default=True,
    type=click.Choice(list(_EVEN_SHARES)),
    help="How negatives are drawn: as often as users click them, evenly, or some each way.",
)
@click.option(
    "--uniform-share",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    help="Share of the mixed negatives that is drawn evenly. Default: 0.5.",
)
@positive_option
@table_options
@json_option
@agreeing(_check_share)
def slates(
    folder: Path, size: int, seed: int, repeats: bool, negatives: str, uniform_share: float | None, config: Config
) -> Report:
    """Make lists with sampled negatives from the events in DIR, where none were logged."""
    from features.tables.load import ReadOptions
    from features.tables.sampled_impressions import write_slates

    options = ReadOptions(config.data, files=config.data.files)
    even_share = _EVEN_SHARES[negatives] if uniform_share is None else uniform_share
    return write_slates(folder, size=size, seed=seed, even_share=even_share, repeats=repeats, options=options)


@data.command()
@click.argument("log", metavar="LOG", type=INPUT)
@click.argument("out", metavar="OUT", type=OUT_FOLDER)
@click.option("--events", required=True, type=INPUT, help="Events table with the clicks that came.")
@table_options
@json_option
def rankings(log: Path, out: Path, events: Path, config: Config) -> Report:
    """Turn the rankings that `recsys serve --log-rankings LOG` wrote into an impressions table in OUT."""
    from features.tables.load import ReadOptions
    from features.tables.logged_impressions import write_logged_impressions

    return write_logged_impressions(log, events, out, ReadOptions(config.data, files=config.data.files))


@click.group(cls=CheckedGroup)
def features() -> None:
    """What the ranker reads."""


@features.command("list")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
@table_options
@json_option
def features_list(folder: Path | None, config: Config) -> Report:
    """Every feature: meaning, unit, range, since when it is known, when it is missing. With DIR: for its columns."""
    from pipelines.list_features import list_features

    return list_features(config, folder)
