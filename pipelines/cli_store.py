"""`recsys store …`: commands about an online store as a whole."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.cli_options import Report, json_option, store_option
from pipelines.cli_types import INPUT, MODEL, OUT_FILE, CheckedGroup, agreeing


@click.group(cls=CheckedGroup)
def store() -> None:
    """What an online store holds; its compaction, export and import; erasure of users."""


@store.command()
@store_option
@json_option
def stats(store: str) -> Report:
    """Count what a store holds, by kind, while servers go on."""
    from pipelines.store import stats as run_stats

    return run_stats(store)


@store.command()
@click.option(
    "--model",
    "models",
    type=MODEL,
    multiple=True,
    help="A ranker in use; name all. Drops the vectors and collaborative snapshots that none of them reads.",
)
@store_option
@json_option
def compact(store: str, models: tuple[str, ...]) -> Report:
    """Shrink the file of a store that nobody has open. Before, remove what lies beyond its horizon and what no model in
    use reads."""
    from pipelines.store import compact as run_compaction

    return run_compaction(store, models)


@store.command()
@click.argument("file", type=OUT_FILE)
@store_option
@json_option
def export(file: Path, store: str) -> Report:
    """Write a whole store, as it is at one moment, into a new FILE, while servers go on."""
    from pipelines.store import export as run_export

    return run_export(file, store)


@store.command("import")
@click.argument("file", type=INPUT)
@store_option
@json_option
def import_(file: Path, store: str) -> Report:
    """Fill an empty store, of either kind, from a FILE that `recsys store export` wrote."""
    from pipelines.store import import_ as run_import

    return run_import(file, store)


def _some_user(context: click.Context) -> None:
    if not context.params["users"] and context.params["file"] is None:
        raise click.UsageError("name a USER, or a file of them with --users")


@store.command()
@click.argument("users", metavar="USER...", nargs=-1)
@click.option("--users", "file", type=INPUT, help="Also forget the users in this file, an id a line.")
@store_option
@json_option
@agreeing(_some_user)
def forget(users: tuple[str, ...], file: Path | None, store: str) -> Report:
    """Remove everything that is held under users' ids, and keep their earlier events out for good."""
    from pipelines.store import forget as run_erasure

    return run_erasure(store, users, file)
