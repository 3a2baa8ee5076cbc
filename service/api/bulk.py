"""Any number of texts in one call: a line in, a line out, at low priority, while both flow."""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from service.access.purchases import Account
from service.api.bulk_room import Rooms
from service.api.bulk_stream import Answering, BulkStream
from service.api.classify import label_entries
from service.api.headers import read_headers
from service.api.openai import embedding_entries
from service.api.requests import StrictRoute
from service.api.routing import chosen, documented_responses, engines_of, settings_of
from service.api.schemas import ClassifyOptions, StrictBody
from service.api.vectors import EncodingFormat
from service.batching.queue import Priority
from service.engine import Engine
from service.errors import InvalidDimensions, UnsupportedMediaType
from service.inputs import Input
from service.options import Options

router = APIRouter(route_class=StrictRoute, tags=["Bulk"])

MEDIA_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
LINE = {
    "oneOf": [
        {"type": "string"},
        {"type": "object", "properties": {"input": {"type": "string"}, "id": {}}},
    ]
}


class BulkQuery(StrictBody):
    """What is to be done with each line."""

    model: str | None = Field(None, description="default: the store's embedding model")
    encoding_format: EncodingFormat = Field("float", description="as in /v1/embeddings")
    dimensions: int | None = Field(None, ge=1, strict=False, description="as in /v1/embeddings")
    prompt_name: str | None = None
    overflow: Literal["truncate", "error", "windows"] = "truncate"
    truncation_direction: Literal["right", "left"] = "right"
    top_k: int | None = Field(None, ge=1, strict=False, description="as in /v1/classify")


@router.post(
    "/v1/bulk",
    summary="NDJSON in, NDJSON out: vectors or labels of any number of texts",
    description="Each line is a text, or an object with `input` and an `id` that comes back. "
    "Answers come in the order of the lines, while lines are still being sent: read while you "
    "send. A line at fault has an `error` of its own. The last line is a summary.",
    response_class=Response,
    responses=documented_responses()
    | {200: {"content": {MEDIA_TYPES[0]: {"schema": {"type": "object"}}}}},
    openapi_extra={
        "requestBody": {"content": {MEDIA_TYPES[0]: {"schema": LINE}}, "required": True}
    },
)
async def bulk(query: Annotated[BulkQuery, Query()], request: Request) -> Response:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise UnsupportedMediaType(f"send the header 'Content-Type: {MEDIA_TYPES[0]}'")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not read: send the lines as they are")
    request.state.call = read_headers(request.headers)
    engines = engines_of(request)
    name = query.model
    engine = engines.for_task("embedding", None) if name is None else engines.get(name)
    engine = chosen(request, engine, by_version="@" in (name or ""))
    rooms: Rooms = request.app.state.bulk_rooms
    answering = _answering(engine, query, request.state.account)
    return BulkStream(engine, answering, rooms.of(engine), engines, settings_of(request))


def _answering(engine: Engine, query: BulkQuery, account: Account) -> Answering:
    """What is asked of the engine for some texts, and how its answer is written.

    Raises:
        InvalidDimensions: before the first line is read, and not for each of them.
    """
    options = Options(
        priority=Priority.BULK,
        prompt_name=query.prompt_name,
        overflow=query.overflow,
        truncation_side=query.truncation_direction,
        partial=True,
    )
    engine.with_prompt([], query.prompt_name)
    if query.dimensions is not None and query.dimensions > engine.manifest.width:
        raise InvalidDimensions(
            f"dimensions must be from 1 to {engine.manifest.width} for model {engine.name!r}",
            param="dimensions",
        )

    async def vectors(texts: list[Input]) -> tuple[list[dict[str, object]], list[int]]:
        with account.part() as payer:
            paid = replace(options, account=payer)
            answer = await engine.embed(texts, paid, dimensions=query.dimensions)
        entries = embedding_entries(answer, query.encoding_format)
        engine.metrics.written(answer.computed_at_s)
        return entries, answer.tokens

    async def labels(texts: list[Input]) -> tuple[list[dict[str, object]], list[int]]:
        with account.part() as payer:
            answer = await engine.classify(texts, replace(options, account=payer))
        wanted = ClassifyOptions(top_k=query.top_k)
        entries = label_entries(answer, engine.manifest.labels, wanted, {})
        engine.metrics.written(answer.computed_at_s)
        return entries, answer.tokens

    return vectors if engine.manifest.task == "embedding" else labels
