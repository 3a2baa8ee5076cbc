"""The mood of a text and its vector in one call, both models at work side by side."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.answers import Answer
from service.api.answer_schemas import AnalyzeResponse
from service.api.classify import add_compound, label_entries, sentiment_engine
from service.api.examples import ANALYZE_REQUESTS, answers
from service.api.openai import embedding_entries
from service.api.requests import StrictRoute
from service.api.routing import (
    as_list,
    documented_responses,
    engines_of,
    json_response,
    options_of,
    select_engine,
)
from service.api.schemas import AnalyzeRequest, ClassifyOptions
from service.engine import Engine
from service.registry import EngineRegistry

router = APIRouter(route_class=StrictRoute, tags=["Classification"])


@router.post(
    "/v1/analyze",
    summary="Sentiment and vector of texts in one call",
    response_model=AnalyzeResponse,
    responses=documented_responses(answers("/v1/analyze")),
)
async def analyze(
    body: Annotated[AnalyzeRequest, Body(openapi_examples=ANALYZE_REQUESTS)], request: Request
) -> Response:
    judge = sentiment_engine(engines_of(request), body.sentiment_model)
    # Noted last: the answer's headers, and what the caller expects, are about the vectors.
    encoder = select_engine(request, "embedding", body.embedding_model, body.expected_version)
    texts = as_list(body.input)
    options = options_of(
        request,
        overflow=body.overflow,
        truncation_side=body.truncation_direction,
        on_error=body.on_error,
    )
    judged, embedded = await _both(
        judge.classify(texts, options), encoder.embed(texts, options, dimensions=body.dimensions)
    )
    moods = label_entries(judged, judge.manifest.labels, ClassifyOptions(), {})
    add_compound(moods, judged, judge)
    vectors = embedding_entries(embedded, body.encoding_format)
    engines = engines_of(request)
    return json_response(
        {
            "object": "list",
            "sentiment": _version(judge, engines),
            "embedding": _version(encoder, engines),
            "data": [
                {"index": index, "sentiment": mood, "embedding": vector}
                for index, (mood, vector) in enumerate(zip(moods, vectors, strict=True))
            ],
            "usage": _usage(judged, embedded),
        },
        encoder,
        embedded,
    )


async def _both(
    first: Coroutine[Any, Any, Answer], second: Coroutine[Any, Any, Answer]
) -> tuple[Answer, Answer]:
    """Both answers; when one fails, the other is given up."""
    try:
        async with asyncio.TaskGroup() as together:
            tasks = together.create_task(first), together.create_task(second)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return tasks[0].result(), tasks[1].result()


def _version(engine: Engine, engines: EngineRegistry) -> dict[str, str]:
    return {
        "model": engines.name_of(engine),
        "version": engine.version,
        "digest": f"sha256:{engine.digest}",
    }


def _usage(*answers: Answer) -> dict[str, Any]:
    tokens = sum(sum(answer.tokens) for answer in answers)
    return {"prompt_tokens": tokens, "total_tokens": tokens}
