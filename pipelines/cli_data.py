"""`recsys data …` and `recsys features list`: the commands that look at tables before anything is trained."""

from __future__ import annotations

from pathlib import Path

import click

from features.tables.encodings import FileOptions
from pipelines.cli_options import (
    FOLDER,
    OUT_FOLDER,
    file_options,
    json_option,
    print_report,
    rejects_option,
    table_options,
)
from pipelines.cli_types import CheckedGroup


@click.group(cls=CheckedGroup)
def data() -> None:
    """Import, simulate and check input tables."""


@data.command("import")
@click.argument("layout", type=click.Choice(["mind"]))
@click.argument("source", metavar="SRC", type=FOLDER)
@click.argument("out", metavar="OUT", type=OUT_FOLDER)
@file_options
@json_option
def data_import(layout: str, source: Path, out: Path, files: FileOptions, json_path: Path | None) -> None:
    """Turn a data set in another LAYOUT into the native tables."""
    from features.tables.mind import import_mind

    print_report(import_mind(source, out, files), json_path)


@data.command()
@click.argument("out", metavar="OUT", type=OUT_FOLDER)
@click.option("--users", default=2_000, show_default=True, type=click.IntRange(min=1))
@click.option("--items", default=1_000, show_default=True, type=click.IntRange(min=60))
@click.option("--impressions", default=20_000, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--language", default="en", show_default=True, type=click.Choice(["en", "zh"]), help="Of the texts.")
@json_option
def simulate(
    out: Path, users: int, items: int, impressions: int, seed: int, language: str, json_path: Path | None
) -> None:
    """Write the tables of a simulated news site, and the truth behind its clicks."""
    from pipelines.simulate import simulate as run_simulation

    sizes = {"users": users, "items": items, "impressions": impressions}
    print_report(run_simulation(out, **sizes, seed=seed, language=language), json_path)


@data.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@rejects_option
@table_options
@json_option
def validate(
    folder: Path, rejects: Path | None, config_path: Path | None, settings: tuple[str, ...], json_path: Path | None
) -> None:
    """Check the tables in DIR and say what is wrong with them."""
    from features.tables.load import load_log
    from pipelines.data_options import read_options
    from recsys.config import load_config
    from recsys.ranker.column_names import model_columns
    from recsys.ranker.features import check_features

    config = load_config(config_path, settings)
    log, report = load_log(folder, read_options(config), rejects=rejects)
    check_features(config, log, model_columns(collaborative=True))
    print_report(report, json_path)


@data.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--size", default=20, show_default=True, type=click.IntRange(min=2), help="Candidates of a list.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@table_options
@json_option
def slates(
    folder: Path,
    size: int,
    seed: int,
    config_path: Path | None,
    settings: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Make lists with sampled negatives from the events in DIR, where none were logged."""
    from features.tables.load import ReadOptions
    from features.tables.sampled_impressions import write_slates
    from recsys.config import load_config

    read = load_config(config_path, settings).data
    options = ReadOptions(read, files=read.files)
    print_report(write_slates(folder, size=size, seed=seed, options=options), json_path)


@click.group(cls=CheckedGroup)
def features() -> None:
    """What the ranker reads."""


@features.command("list")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
@table_options
@json_option
def features_list(
    folder: Path | None, config_path: Path | None, settings: tuple[str, ...], json_path: Path | None
) -> None:
    """Every feature: meaning, unit, range, since when it is known, when it is missing. With DIR, of its columns."""
    from pipelines.list_features import list_features
    from recsys.config import load_config

    print_report(list_features(load_config(config_path, settings), folder), json_path)
