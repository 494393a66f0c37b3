"""The commands about API keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli_options import Report, json_file_option, json_option, print_report
from pipelines.cli_types import KEY_NAME, KEYS, CheckedGroup

if TYPE_CHECKING:
    from recsys.serving.api_keys import Scope

SCOPES = ("read", "write", "admin")
"""As `recsys.serving.api_keys` has them."""

_keys_option = click.option(
    "--keys", "place", type=KEYS, default="keys.json", show_default=True, help="File or redis:// URL of the keys."
)


@click.group(cls=CheckedGroup)
def keys() -> None:
    """Make, list and revoke the API keys of `recsys serve --keys`."""


@keys.command()
@click.argument("name", type=KEY_NAME)
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    required=True,
    help="read: rank, look up, metrics; write: also post events, items and users; admin: also delete.",
)
@_keys_option
@json_file_option
def add(name: str, scope: Scope, place: str, json_path: Path | None) -> None:
    """Make a key, print it this once, and store its hash."""
    from pipelines.keys import add_key

    print_report(add_key(place, name, scope), json_path, private=True)


@keys.command("list")
@_keys_option
@json_option
def list_(place: str) -> Report:
    """List the keys: names, scopes, when they were made, and their last characters."""
    from pipelines.keys import list_keys

    return list_keys(place)


@keys.command()
@click.argument("name", type=KEY_NAME)
@_keys_option
@json_option
def revoke(name: str, place: str) -> Report:
    """Revoke a key; running servers notice within seconds."""
    from pipelines.keys import revoke as run_revoke

    return run_revoke(place, name)
