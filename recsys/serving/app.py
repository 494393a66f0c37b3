"""The HTTP API of a `RankService`: routes, and every failure as the contract's JSON.

Ranking and writing run in threads, each behind an admission limit of its own; health answers on the event loop, so that
a busy server still reports that it is live.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread
import orjson
from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, StringConstraints
from starlette.exceptions import HTTPException

from features.errors import InputError, RecsysError, StoreError, TimeOrderError
from recsys.serving.access import AccessMiddleware, describe_access
from recsys.serving.admission import AdmissionLimiter
from recsys.serving.budget import parse_milliseconds
from recsys.serving.docs_page import add_api_page
from recsys.serving.errors import (
    CODES,
    INVALID,
    STORE,
    TOO_OLD,
    NotReady,
    ServingError,
    describe_error,
    error_body,
    field_path,
    most_telling,
)
from recsys.serving.key_ring import KeyRing
from recsys.serving.middleware import RequestMiddleware
from recsys.serving.path_ids import path_id
from recsys.serving.playground_page import add_playground
from recsys.serving.request_examples import add_examples
from recsys.serving.schemas import (
    BUDGET_HEADER,
    BatchAnswer,
    DeletedItem,
    Event,
    EventsRequest,
    ForgottenUser,
    FoundItems,
    Item,
    ItemsRequest,
    ProblemAnswer,
    RankAnswer,
    RankRequest,
    User,
    UsersRequest,
)
from recsys.serving.security_headers import SecurityHeadersMiddleware
from recsys.serving.service import RankService
from recsys.serving.stored_items import find_items, read_item, remove_item, stored_titles
from recsys.serving.tracing import TracingMiddleware
from recsys.serving.user_writer import UserWriter

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemAnswer, "description": CODES[status].replace("_", " ")} for status in (400, 413, 422, 503)
}
_BODIES: dict[str, type[BaseModel]] = {
    "/v1/rank": RankRequest,
    "/v1/events": EventsRequest,
    "/v1/items": ItemsRequest,
    "/v1/users": UsersRequest,
}
_NOT_STORED: dict[int | str, dict[str, Any]] = {
    404: {"model": ProblemAnswer, "description": CODES[404].replace("_", " ")}
}
_KIB, _MIB = 2**10, 2**20
_WRITTEN_TOGETHER = 16
"""Requests with events that are checked at the same time, and written together where the store allows it."""
_READY_SECONDS, _ASKING = 2.0, 4
"""How long readiness waits for the store, and how many such questions are asked at the same time."""
_CONTENT_TYPE = b"content-type"
_RETRY_AFTER = {"retry-after": "1"}
BudgetHeader = Annotated[
    str | None,
    Header(
        alias=BUDGET_HEADER,
        description="Milliseconds that this ranking may take from its arrival on, else a lower rung answers; 0 for no "
        "limit, missing: the setting serving.budget_ms.",
    ),
]
IdsQuery = Annotated[
    Sequence[Annotated[str, StringConstraints(min_length=1)]],
    Query(alias="id", max_length=1000, description="Items of these ids; those that are not stored are left out."),
]
WordsQuery = Annotated[
    str,
    Query(
        max_length=200,
        description="The first stored items whose title has every word, in any case, and the item of this id. For "
        "trying out: it reads the store for at most half a second, and is no search engine.",
    ),
]


class _StrictJson(Request):
    """A request whose body is JSON whatever its content type says; NaN and broken UTF-8 are no JSON."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json


class _Route(APIRoute):
    """Hands `_StrictJson` to the route's function, under the content type that makes FastAPI read it: `curl -d` says of
    every body that it is a form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            headers = [(name, value) for name, value in request.scope["headers"] if name != _CONTENT_TYPE]
            request.scope["headers"] = [*headers, (_CONTENT_TYPE, b"application/json")]
            return await handler(_StrictJson(request.scope, request.receive))

        return handle


def create_app(service: RankService, keys: KeyRing | None = None, tracer: Tracer | None = None) -> FastAPI:
    """The application that serves `service`; nothing is opened or started here. keys: None asks for none. tracer:
    records a trace of each request, None of none."""
    app = FastAPI(
        title="recsys",
        description="Rank candidate items for a user by text and behaviour.",
        version=service.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.router.route_class = _Route
    settings = service.settings
    app.add_middleware(AccessMiddleware, keys=keys, telemetry=service.telemetry)
    app.add_middleware(
        RequestMiddleware,
        telemetry=service.telemetry,
        max_body=int(settings.max_body_mb * _MIB),
        max_headers=int(settings.max_header_kb * _KIB),
    )
    app.add_middleware(SecurityHeadersMiddleware, cacheable="/docs/")
    if tracer is not None:
        app.add_middleware(TracingMiddleware, tracer=tracer)
    _add_failures(app)
    _add_work(app, service)
    _add_pages(app, service)
    add_playground(app)
    add_api_page(app)
    app.openapi = partial(_openapi, app.openapi, has_keys=keys is not None)  # type: ignore[method-assign]
    return app


def _add_work(app: FastAPI, service: RankService) -> None:
    """The routes that rank and write."""
    settings = service.settings
    ranking, writing = AdmissionLimiter(settings.workers, settings.queue), AdmissionLimiter(1, settings.queue)
    together = min(_WRITTEN_TOGETHER, 1 + settings.queue)
    counting = AdmissionLimiter(together, 1 + settings.queue - together)

    @app.post("/v1/rank", responses={200: {"model": RankAnswer}, **_FAILURES}, summary="Put candidates in order")
    async def rank(body: RankRequest, request: Request, budget_ms: BudgetHeader = None) -> Response:
        milliseconds = None if budget_ms is None else parse_milliseconds(budget_ms)
        budget = service.budget(milliseconds, request.state.arrived)
        work = partial(service.answer, body, request_id=request.state.request_id, budget=budget)
        answer = await ranking.run(work)
        milliseconds = 1000 * (time.perf_counter() - request.state.arrived)
        return _json(answer, headers={"server-timing": f"rank;dur={milliseconds:.2f}"})

    @app.post("/v1/events", responses={200: {"model": BatchAnswer}, **_FAILURES}, summary="Say what users did or saw")
    async def events(body: EventsRequest) -> Response:
        return _json(await counting.run(partial(service.writer.add_events, body.events)))

    @app.post("/v1/items", responses={200: {"model": BatchAnswer}, **_FAILURES}, summary="Add or change items")
    async def items(body: ItemsRequest) -> Response:
        return _json(await writing.run(partial(service.writer.add_items, body.items)))

    _add_stored(app, service, ranking, writing)


def _add_stored(app: FastAPI, service: RankService, reading: AdmissionLimiter, writing: AdmissionLimiter) -> None:
    """The routes of one item or user, and users' attributes. An id in a path may hold anything, slashes too."""
    users = UserWriter(service.state, service.settings, service.telemetry)

    @app.get(
        "/v1/items/{item_id:id}", responses={**_NOT_STORED, **_FAILURES}, response_model=Item, summary="A stored item"
    )
    async def item(item_id: str, request: Request) -> Response:
        name = path_id(request, "/v1/items/", "item_id")
        return _json(await reading.run(partial(read_item, service.state, name)))

    @app.delete("/v1/items/{item_id:id}", responses=_FAILURES, response_model=DeletedItem, summary="Remove an item")
    async def delete_item(item_id: str, request: Request) -> Response:
        name = path_id(request, "/v1/items/", "item_id")
        return _json(await writing.run(partial(remove_item, service.state, name)))

    @app.post("/v1/users", responses={200: {"model": BatchAnswer}, **_FAILURES}, summary="Add or change users")
    async def post_users(body: UsersRequest) -> Response:
        return _json(await writing.run(partial(users.add_users, body.users)))

    @app.delete("/v1/users/{user_id:id}", responses=_FAILURES, response_model=ForgottenUser, summary="Forget a user")
    async def forget(user_id: str, request: Request) -> Response:
        return _json(await writing.run(partial(users.forget, path_id(request, "/v1/users/", "user_id"))))


def _add_pages(app: FastAPI, service: RankService) -> None:
    """Read-only endpoints. What asks the store does so in a thread: it may hang."""
    in_thread = partial(anyio.to_thread.run_sync, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(_ASKING))
    searching = AdmissionLimiter(1, service.settings.queue)

    @app.get("/health/live", summary="The process answers")
    async def live() -> Response:
        return _json({"status": "live"})

    @app.get("/health/ready", responses={503: _FAILURES[503]}, summary="Model and store can answer")
    async def ready() -> Response:
        with anyio.move_on_after(_READY_SECONDS):
            return _json({"status": "ready", **await in_thread(service.ready)})
        raise NotReady(f"the store has not answered for {_READY_SECONDS:g} s")

    @app.get("/metrics", response_class=Response, summary="Prometheus' text format")
    async def metrics() -> Response:
        return Response(service.telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/examples", summary="A few ids to try")
    async def examples() -> Response:
        return _json(await in_thread(service.examples))

    @app.get("/v1/items", responses=_FAILURES, response_model=FoundItems, summary="Titles of stored items")
    async def titles(ids: IdsQuery = (), words: WordsQuery = "") -> Response:
        work = partial(stored_titles, service.state, ids) if ids else partial(find_items, service.state, words)
        return _json(await searching.run(work))


def _add_failures(app: FastAPI) -> None:
    """The answer to each kind of failure; others become a 500 in `RequestMiddleware`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        detail = most_telling(error.errors())
        if detail["type"] == "json_invalid":
            return _json(error_body(CODES[400], f"expected a JSON body: {detail.get('ctx', {}).get('error', '')}"), 400)
        message = describe_error(detail, _BODIES.get(_route(request), RankRequest).model_fields)
        return _json(error_body(INVALID, message, field_path(detail["loc"])), 422)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code = CODES.get(error.status_code, "error")
        text = (
            f"{request.method} {request.url.path}: {error.detail}" if error.status_code in (404, 405) else error.detail
        )
        return _json(error_body(code, text), error.status_code, error.headers)

    @app.exception_handler(RecsysError)
    async def recsys_error(request: Request, error: RecsysError) -> Response:
        if isinstance(error, ServingError):
            headers = _RETRY_AFTER if error.status == 503 else None
            return _json(error_body(error.code, str(error), error.field), error.status, headers)
        if isinstance(error, TimeOrderError):
            return _json(error_body(TOO_OLD, str(error), "timestamp"), 422)
        if isinstance(error, StoreError):
            return _json(error_body(STORE, str(error)), 503, _RETRY_AFTER)
        if isinstance(error, InputError):
            return _json(error_body(INVALID, str(error)), 422)
        raise error


def _route(request: Request) -> str:
    """The path of a request's route, without what a proxy puts before it."""
    return str(getattr(request.scope.get("route"), "path", ""))


def _openapi(make: Callable[[], dict[str, Any]], *, has_keys: bool) -> dict[str, Any]:
    """The OpenAPI document with the rows of batches, which are validated one by one and so are in no signature."""
    document = copy.deepcopy(make())  # FastAPI keeps the one that it has made
    schemas = document["components"]["schemas"]
    for model in (Event, Item, User):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.setdefault(model.__name__, schema)
    add_examples(document)
    if has_keys:
        describe_access(document)
    return document


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers=headers, media_type="application/json")
