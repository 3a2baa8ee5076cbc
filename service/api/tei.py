"""text-embeddings-inference's dialect: vectors, labels, likeness, ranks."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.answers import Answer
from service.api.dialects import TEI
from service.api.examples import (
    EMBED_ALL_REQUESTS,
    EMBED_REQUESTS,
    PREDICT_REQUESTS,
    RERANK_REQUESTS,
    SIMILARITY_REQUESTS,
    answers,
)
from service.api.headers import compute_headers
from service.api.requests import TeiRoute
from service.api.routing import (
    check_token_ids,
    chosen,
    documented_responses,
    engines_of,
    json_response,
    options_of,
    select_engine,
)
from service.api.tei_schemas import (
    EmbedAllRequest,
    EmbedRequest,
    Prediction,
    PredictRequest,
    Rank,
    RerankRequest,
    SimilarityRequest,
    TeiError,
    Truncation,
)
from service.engine import Engine
from service.errors import WrongTask
from service.inputs import Input, Pair
from service.options import Options
from service.registry import EngineRegistry
from service.runtime.outputs import FloatArray, sigmoid, unit_length

router = APIRouter(route_class=TeiRoute, tags=["Text Embeddings Inference"])


@router.post(
    "/embed",
    summary="Vectors of texts",
    response_model=list[list[float]],
    responses=documented_responses(answers("/embed"), TEI, TeiError),
)
async def embed(
    body: Annotated[EmbedRequest, Body(openapi_examples=EMBED_REQUESTS)], request: Request
) -> Response:
    engine = _embedding_engine(request, body)
    texts = body.texts()
    answer = await engine.embed(
        texts, truncation_of(request, body), dimensions=body.dimensions, normalize=body.normalize
    )
    return tei_response(np.ascontiguousarray(answer.rows), request, engine, answer, texts)


@router.post(
    "/embed_all",
    summary="Vectors of each token of texts",
    response_model=list[list[list[float]]],
    responses=documented_responses(answers("/embed_all"), TEI, TeiError),
)
async def embed_all(
    body: Annotated[EmbedAllRequest, Body(openapi_examples=EMBED_ALL_REQUESTS)], request: Request
) -> Response:
    engine = _embedding_engine(request, body)
    texts = body.texts()
    vectors, answer = await engine.embed_tokens(texts, truncation_of(request, body))
    listed = [np.ascontiguousarray(rows) for rows in vectors]
    return tei_response(listed, request, engine, answer, texts)


@router.post(
    "/predict",
    summary="Labels of texts or of pairs of texts, the likeliest first",
    response_model=list[Prediction] | list[list[Prediction]],
    responses=documented_responses(answers("/predict"), TEI, TeiError),
)
async def predict(
    body: Annotated[PredictRequest, Body(openapi_examples=PREDICT_REQUESTS)], request: Request
) -> Response:
    engine = select_engine(request, "classification", body.model)
    texts = body.texts()
    answer = await engine.classify(texts, truncation_of(request, body), raw_scores=body.raw_scores)
    found = [ranked(row, engine.manifest.labels) for row in answer.rows]
    return tei_response(found[0] if body.single else found, request, engine, answer, texts)


@router.post(
    "/similarity",
    summary="How alike each sentence is to the source: cosines",
    response_model=list[float],
    responses=documented_responses(answers("/similarity"), TEI, TeiError),
)
async def similarity(
    body: Annotated[SimilarityRequest, Body(openapi_examples=SIMILARITY_REQUESTS)],
    request: Request,
) -> Response:
    engine = select_engine(request, "embedding", body.model)
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    options = truncation_of(request, body.parameters or Truncation())
    cosines, answer = await _cosines(engine, texts, options)
    return tei_response(cosines, request, engine, answer, texts)


@router.post(
    "/rerank",
    summary="Texts by how well they answer a query, the best first",
    response_model=list[Rank],
    responses=documented_responses(answers("/rerank"), TEI, TeiError),
)
async def rerank(
    body: Annotated[RerankRequest, Body(openapi_examples=RERANK_REQUESTS)], request: Request
) -> Response:
    engine = ranking_engine(engines_of(request), body.model)
    engine = chosen(request, engine, by_version="@" in (body.model or ""))
    options = truncation_of(request, body)
    if engine.reads_pairs:
        texts: list[Input] = [Pair(body.query, text) for text in body.texts]
        answer = await engine.classify(texts, options, raw_scores=True)
        scores = answer.rows[:, 0] if body.raw_scores else sigmoid(answer.rows[:, 0])
    else:
        texts = [body.query, *body.texts]
        scores, answer = await _cosines(engine, texts, options)
    order = np.argsort(-scores, kind="stable").tolist()
    ranks = [
        {"index": index, "score": scores[index]}
        | ({"text": body.texts[index]} if body.return_text else {})
        for index in order
    ]
    return tei_response(ranks, request, engine, answer, texts)


def ranking_engine(engines: EngineRegistry, model: str | None) -> Engine:
    """What /rerank asks: a cross-encoder, or the embedding model whose cosines stand for it.

    Without a name the only cross-encoder is taken, else the default embedding model.

    Raises:
        UnknownModel: no such model, or none that could rank.
        WrongTask: the model judges single texts, or has several labels.
    """
    if model is None:
        judges = [one for one in engines if one.reads_pairs and one.manifest.width == 1]
        return judges[0] if len(judges) == 1 else engines.for_task("embedding", None)
    engine = engines.get(model)
    ranks = engine.reads_pairs and engine.manifest.width == 1
    if not (ranks or engine.manifest.task == "embedding"):
        raise WrongTask(
            f"model {engine.name!r} is not a re-ranker: that is a cross-encoder with one score, or "
            "an embedding model",
            param="model",
        )
    return engine


def truncation_of(request: Request, body: Truncation) -> Options:
    """What the body says about long texts and prompts."""
    return options_of(
        request,
        prompt_name=body.prompt_name,
        overflow="error" if body.truncate is False else "truncate",
        truncation_side="left" if body.truncation_direction in ("left", "Left") else "right",
    )


def ranked(
    row: FloatArray, labels: Sequence[str], top_k: int | None = None
) -> list[dict[str, object]]:
    """Labels with their scores, the highest first."""
    order = np.argsort(-row, kind="stable").tolist()[:top_k]
    return [{"score": row[index], "label": labels[index]} for index in order]


def tei_response(
    content: object, request: Request, engine: Engine, answer: Answer, texts: Sequence[Input]
) -> Response:
    """The bare answer; headers say what it cost."""
    return json_response(content, engine, answer, compute_headers(request, answer, texts))


async def _cosines(
    engine: Engine, texts: Sequence[Input], options: Options
) -> tuple[FloatArray, Answer]:
    """Cosines of the first text with each of the others, and what all cost."""
    answer = await engine.embed(texts, options)
    rows = unit_length(answer.rows)
    return np.ascontiguousarray(rows[1:] @ rows[0]), answer


def _embedding_engine(request: Request, body: EmbedAllRequest) -> Engine:
    engine = select_engine(request, "embedding", body.model)
    check_token_ids(engine, engines_of(request), body.token_ids_of)
    return engine
