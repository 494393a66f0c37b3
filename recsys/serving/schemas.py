"""The bodies of requests and answers over HTTP.

Ids are text; whole numbers become decimal text and numbers with a fraction are refused, as in the input tables. Times
are ISO 8601 or epoch s, ms or us. What a column of an item may hold is the model's business, not this module's.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from recsys.serving.traffic import Variant

MAX_ID = 512
"""Longest id, in bytes of UTF-8."""
MAX_TEXT = 100_000
"""Longest title, description, query or other value, in characters."""
MAX_TIME, MAX_TYPE = 64, 200
"""Longest time and event type, in characters."""
BUDGET_HEADER = "X-Budget-Ms"
"""The header that says how many milliseconds a ranking may take."""


def _id(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise ValueError("expected text or a whole number, got a number with a fraction")
    if isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) > MAX_ID:
        raise ValueError(f"expected at most {MAX_ID} bytes of UTF-8, got {len(value.encode('utf-8', 'surrogatepass'))}")
    return value


def _item(value: object) -> object:
    return {"item_id": value} if isinstance(value, (str, int, float)) else value


def _plain_ids(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Ids of the usual form as they are, which takes a tenth of the time of a model for each; else what `validate`
    says."""
    if type(value) is list and set(map(type, value)) == {str} and all(map(str.isascii, value)):
        lengths = set(map(len, value))
        if min(lengths) > 0 and max(lengths) <= MAX_ID:
            return value
    return validate(value)


Id = Annotated[str, StringConstraints(min_length=1), BeforeValidator(_id, json_schema_input_type=str | int)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Time = Annotated[str, StringConstraints(max_length=MAX_TIME)] | int | float


class Body(BaseModel):
    """Part of a request: strict about types and keys, since a misspelt key would be a value that is quietly missing."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Item(BaseModel):
    """A row of the items table: an id, and any column. A column that is given wins over the stored one."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    item_id: Id
    title: Text | None = None
    description: Text | None = None

    def columns(self) -> dict[str, Any]:
        """The columns that came along, without the id and without nulls."""
        columns = {name: getattr(self, name) for name in self.model_fields_set if name != "item_id"}
        return {name: value for name, value in (columns | (self.model_extra or {})).items() if value is not None}


ItemOrId = Annotated[Item, BeforeValidator(_item, json_schema_input_type=Item | str | int)]
Candidates = Annotated[
    list[Item] | list[str],
    GetPydanticSchema(lambda _, schema_of: schema_of(list[ItemOrId])),
    WrapValidator(_plain_ids),
]
"""Validated as a list of items, but for ids of the usual form."""


class RankRequest(Body):
    """Who is to see the list, and what could be in it."""

    user_id: Id | None = Field(None, description="Null for a user without history.")
    candidates: Candidates = Field(min_length=1, description="Item ids, or items with any columns.")
    history: list[ItemOrId] | None = Field(
        None, description="Clicked items, oldest first, in place of the stored history for what reads items' content."
    )
    query: Text | None = None
    timestamp: Time | None = Field(None, description="ISO 8601 or epoch s, ms, us; missing: now.")
    top_k: int | None = Field(None, ge=1, description="Answer only so many items.")
    explain: bool = Field(
        False,
        description="Add to the top items what columns and groups gave to the score, where a model ranked, and the "
        "nearest history items.",
    )
    variant: Variant | None = Field(
        None, description="Who answers where the server has a challenger; missing: as the server's share says."
    )


class Answer(BaseModel):
    """Part of an answer. `recsys.client` reads answers with these models, so that this module imports pydantic alone;
    keys that a newer server adds are left out."""

    model_config = ConfigDict(frozen=True)


class Contribution(Answer):
    """What one column of the ranker gave to a score, beside its value; null is missing."""

    column: str
    value: float | None
    contribution: float


class GroupContribution(Answer):
    """What all columns of a group gave to a score together."""

    group: str
    contribution: float


class NearHistoryItem(Answer):
    """An item of the user's history that is near to a ranked one. by: `text` for the cosine of their texts' vectors,
    `co_click` for the similarity by who clicked both."""

    item_id: str
    similarity: float
    by: str


class RankedItem(Answer):
    """One item of the answer; rank 1 is the top. The last three are there for the top items (`serving.explained_items`)
    where the request says `explain`."""

    item_id: str
    score: float
    rank: int
    explanation: list[Contribution] | None = Field(None, description="The columns of the largest effect.")
    groups: list[GroupContribution] | None = Field(
        None,
        description="All groups of columns, the largest effect first; with the expected score they sum to the score.",
    )
    because: list[NearHistoryItem] | None = Field(
        None, description="Up to three items of the history that are nearest to this one, the nearest first."
    )


class ModelVersions(Answer):
    """The registered versions that answered, as NAME/VERSION."""

    ranker: str
    encoder: str | None


class RankAnswer(Answer):
    """Items by descending score; equal scores by item id."""

    request_id: str
    model: ModelVersions
    rung: str = Field(
        description="What ranked: full, no_encoding, no_text, popularity or caller_order; see docs/serving.md."
    )
    items: list[RankedItem]
    unknown: list[str] = Field(
        description="Candidates that nothing is known of, neither a description nor an event: their places say little."
    )
    warnings: list[str] | None = Field(None, description="What is odd in the request, if anything.")


class Event(Body):
    """Something a user did; or, as type `impression` with `items`, a list that a user was shown."""

    user_id: Id | None = None
    item_id: Id | None = None
    items: list[Id] | None = None
    timestamp: Time
    event_type: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TYPE)] = "click"
    value: float | None = Field(
        None, description="The number by which the model's setting data.positive tells clicks; no feature reads it."
    )
    impression_id: Id | None = None
    event_id: Id | None = None


class EventsRequest(Body):
    """A batch of events; each is judged alone."""

    events: list[Any] = Field(json_schema_extra={"items": {"$ref": "#/components/schemas/Event"}})


class ItemsRequest(Body):
    """Rows of the items table, upserted by id; each is judged alone."""

    items: list[Any] = Field(json_schema_extra={"items": {"$ref": "#/components/schemas/Item"}})


class User(BaseModel):
    """A row of the users table: an id, and attributes that are text, numbers, booleans, or lists of these."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    user_id: Id


class UsersRequest(Body):
    """Rows of the users table, upserted by id; each is judged alone."""

    users: list[Any] = Field(json_schema_extra={"items": {"$ref": "#/components/schemas/User"}})


class Rejection(Answer):
    """A row that was not taken."""

    index: int
    code: str
    message: str


class BatchAnswer(Answer):
    """How many rows are on disk now, and which are not."""

    accepted: int
    rejected: list[Rejection]
    warnings: list[str] | None = Field(None, description="What is odd in the rows that were taken, if anything.")


class ItemTitle(Answer):
    """A stored item by its title, "" where it has none."""

    item_id: str
    title: str


class FoundItems(Answer):
    """Stored items by id or by words."""

    items: list[ItemTitle]
    complete: bool = Field(description="Whether there are no others; false where not all stored items were looked at.")


class DeletedItem(Answer):
    """An item that is not stored any more."""

    item_id: str
    deleted: bool = Field(description="Whether it was stored.")


class ForgottenUser(Answer):
    """A user of whom nothing is held any more."""

    user_id: str
    forgotten: bool = Field(description="Whether anything was held; earlier events stay out in either case.")
    removed: dict[str, int] = Field(description="How many records, by kind.")


class Problem(Answer):
    """What was wrong."""

    code: str
    message: str
    field: str | None = None


class ProblemAnswer(Answer):
    """Every answer that is no success."""

    error: Problem
