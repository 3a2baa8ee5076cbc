"""Our own dialect: any classification model, and sentiment with one number for the mood."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.api.examples import (
    CLASSIFY_REQUESTS,
    CLASSIFY_RESPONSES,
    SENTIMENT_REQUESTS,
    SENTIMENT_RESPONSES,
)
from service.api.requests import StrictRoute
from service.api.routing import (
    PriorityHeader,
    as_list,
    documented_responses,
    json_response,
    priority_of,
    select_engine,
    usage,
)
from service.api.schemas import ClassifyRequest, ClassifyResponse, SentimentResponse
from service.engine import Answer, Engine
from service.errors import WrongTask
from service.runtime.outputs import compound

router = APIRouter(route_class=StrictRoute, tags=["Classification"])


@router.post(
    "/v1/classify",
    summary="Labels of texts",
    response_model=ClassifyResponse,
    responses=documented_responses(CLASSIFY_RESPONSES),
)
async def classify(
    body: Annotated[ClassifyRequest, Body(openapi_examples=CLASSIFY_REQUESTS)],
    request: Request,
    priority: PriorityHeader = "interactive",
) -> Response:
    engine = select_engine(request, "classification", body.model)
    answer = await engine.classify(as_list(body.input), priority_of(priority))
    entries = [
        _entry(engine, answer, index) | {"truncated": truncated}
        for index, truncated in enumerate(answer.truncated)
    ]
    return _respond(engine, answer, entries)


@router.post(
    "/v1/sentiment",
    summary="Negative, neutral or positive",
    response_model=SentimentResponse,
    responses=documented_responses(SENTIMENT_RESPONSES),
)
async def sentiment(
    body: Annotated[ClassifyRequest, Body(openapi_examples=SENTIMENT_REQUESTS)],
    request: Request,
    priority: PriorityHeader = "interactive",
) -> Response:
    engine = select_engine(request, "classification", body.model)
    labels = engine.manifest.labels
    if not {"negative", "positive"} <= set(labels):
        raise WrongTask(
            f"model {engine.name!r} has no labels 'negative' and 'positive': use /v1/classify",
            param="model",
        )
    answer = await engine.classify(as_list(body.input), priority_of(priority))
    moods = compound(answer.rows, labels)
    entries = [
        _entry(engine, answer, index) | {"compound": mood, "truncated": answer.truncated[index]}
        for index, mood in enumerate(moods)
    ]
    return _respond(engine, answer, entries)


def _entry(engine: Engine, answer: Answer, index: int) -> dict[str, Any]:
    scores = dict(zip(engine.manifest.labels, answer.rows[index], strict=True))
    label = max(scores, key=scores.__getitem__)
    return {"index": index, "label": label, "score": scores[label], "scores": scores}


def _respond(engine: Engine, answer: Answer, entries: list[dict[str, Any]]) -> Response:
    return json_response(
        {
            "object": "list",
            "model": engine.name,
            "version": engine.manifest.version,
            "data": entries,
            "usage": usage(answer),
        },
        answer,
    )
