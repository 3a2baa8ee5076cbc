"""Our own dialect: any classification model, and sentiment with one number for the mood."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api.requests import StrictRoute
from service.api.routing import as_list, error_responses, json_response, select_engine, usage
from service.api.schemas import ClassifyRequest, ClassifyResponse, SentimentResponse
from service.engine import Answer, Engine
from service.errors import WrongTask
from service.runtime.outputs import compound

router = APIRouter(route_class=StrictRoute, tags=["Classification"])


@router.post(
    "/v1/classify",
    summary="Labels of texts",
    response_model=ClassifyResponse,
    responses=error_responses(),
)
async def classify(body: ClassifyRequest, request: Request) -> Response:
    engine = select_engine(request, "classification", body.model)
    answer = await engine.classify(as_list(body.input))
    return _respond(engine, answer, _entries(engine, answer))


@router.post(
    "/v1/sentiment",
    summary="Negative, neutral or positive",
    response_model=SentimentResponse,
    responses=error_responses(),
)
async def sentiment(body: ClassifyRequest, request: Request) -> Response:
    engine = select_engine(request, "classification", body.model)
    labels = engine.manifest.labels
    if not {"negative", "positive"} <= set(labels):
        raise WrongTask(
            f"model {engine.name!r} has no labels 'negative' and 'positive': use /v1/classify",
            param="model",
        )
    answer = await engine.classify(as_list(body.input))
    moods = compound(answer.rows, labels).tolist()
    entries = _entries(engine, answer)
    return _respond(
        engine,
        answer,
        [entry | {"compound": mood} for entry, mood in zip(entries, moods, strict=True)],
    )


def _entries(engine: Engine, answer: Answer) -> list[dict[str, Any]]:
    entries = []
    for index, (row, truncated) in enumerate(
        zip(answer.rows.tolist(), answer.truncated, strict=True)
    ):
        scores = dict(zip(engine.manifest.labels, row, strict=True))
        label = max(scores, key=scores.__getitem__)
        entries.append(
            {
                "index": index,
                "label": label,
                "score": scores[label],
                "scores": scores,
                "truncated": truncated,
            }
        )
    return entries


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
