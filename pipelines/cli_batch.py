"""The commands that find candidates for users, and rank them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from features.tables.encodings import FileOptions
from pipelines.cli_options import Report, file_options, json_option, model_option
from pipelines.cli_types import FOLDER_OR_URL, INPUT_OR_URL, MOMENT, OUT_FOLDER, USERS, CheckedCommand, agreeing

if TYPE_CHECKING:
    from pipelines.candidates import CandidateRequest
    from recsys.candidates.filters import Skip

SKIPS = ("clicked", "seen", "nothing")
"""As `recsys.candidates.filters` has them."""


_OPTIONS = (
    click.option("--users", type=USERS, required=True, help="File with a column user_id, or all: everybody in DIR."),
    click.option("--out", required=True, type=OUT_FOLDER, help="New folder for the Parquet files."),
    click.option(
        "--k", "most", type=click.IntRange(min=1), default=500, show_default=True, help="Candidates of each user."
    ),
    model_option,
    click.option(
        "--at",
        type=MOMENT,
        metavar="TIME",
        help="Read nothing at or after this time; format as in `recsys score`. Default: now.",
    ),
    click.option(
        "--skip",
        type=click.Choice(SKIPS),
        default="clicked",
        show_default=True,
        help="Leave out what a user has clicked, or seen: items of any of the user's events or impressions.",
    ),
    click.option(
        "--exclude",
        type=INPUT_OR_URL,
        multiple=True,
        help="File of item_id that nobody gets or, with user_id, not that user; may be repeated.",
    ),
    file_options,
)


def _request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both commands, which get them as `request`, but for `out`."""

    @wraps(command)
    def with_request(
        *args: Any,
        users: Path | str | None,
        most: int,
        model: str,
        at: str | None,
        skip: Skip,
        exclude: tuple[Path | str, ...],
        files: FileOptions,
        **rest: Any,
    ) -> Any:
        from pipelines.candidates import CandidateRequest

        request = CandidateRequest(users, most, model, at, skip, exclude, files=files)
        return command(*args, request=request, **rest)

    for option in reversed(_OPTIONS):
        with_request = option(with_request)
    return with_request


def _top_fits(context: click.Context) -> None:
    if context.params["top"] > context.params["most"]:
        raise click.UsageError("--top: expected at most --k, the candidates of each user, of which the best are kept")


@click.command(cls=CheckedCommand)
@click.argument("folder", metavar="DIR", type=FOLDER_OR_URL)
@_request_options
@click.option(
    "--evaluate-until",
    type=MOMENT,
    metavar="TIME",
    help="Also measure the recall of what users clicked from --at on and before this time.",
)
@json_option
def candidates(folder: Path | str, out: Path, request: CandidateRequest, evaluate_until: str | None) -> Report:
    """Find items worth ranking for users: near to what they clicked, co-clicked, popular and new."""
    from pipelines.candidates import candidates as run_candidates

    return run_candidates(folder, out, request, evaluate_until=evaluate_until)


@click.command(cls=CheckedCommand)
@click.argument("folder", metavar="DIR", type=FOLDER_OR_URL)
@_request_options
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Items that each user gets.")
@json_option
@agreeing(_top_fits)
def recommend(folder: Path | str, out: Path, request: CandidateRequest, top: int) -> Report:
    """Find candidates for users, rank them and keep the best."""
    from pipelines.recommend import recommend as run_recommend

    return run_recommend(folder, out, request, top=top)


COMMANDS = (candidates, recommend)
