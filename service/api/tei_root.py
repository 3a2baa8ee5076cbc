"""`POST /`: the shape of the body says what is wanted, as huggingface_hub's client relies on."""

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.api import tei
from service.api.dialects import TEI
from service.api.examples import ROOT_REQUESTS, answers
from service.api.requests import TeiRoute, parsed
from service.api.routing import (
    as_list,
    documented_responses,
    engines_of,
    select_engine,
    settings_of,
)
from service.api.tei_schemas import (
    EmbedRequest,
    HubParameters,
    HubRequest,
    PredictRequest,
    RerankRequest,
    RootRequest,
    SimilarityRequest,
    TeiError,
)
from service.api.tei_tools import default_engine
from service.api.zero_shot import score_labels
from service.inputs import Input
from service.runtime.outputs import FloatArray, sigmoid, softmax
from service.store.manifest import Task

router = APIRouter(route_class=TeiRoute, tags=["Text Embeddings Inference"])


@router.post("/invocations", include_in_schema=False)
@router.post(
    "/",
    summary="Whatever the body asks for, as huggingface_hub.InferenceClient sends it",
    responses=documented_responses(answers("/"), TEI, TeiError),
)
async def by_shape(
    body: Annotated[RootRequest, Body(openapi_examples=ROOT_REQUESTS)], request: Request
) -> Response:
    fields = {name: getattr(body, name) for name in body.model_fields_set}
    if "query" in fields:
        return await tei.rerank(parsed(RerankRequest, fields), request)
    if isinstance(body.inputs, dict):
        return await tei.similarity(parsed(SimilarityRequest, fields), request)
    if body.parameters is not None:
        return await _labels(parsed(HubRequest, fields), request)
    engine = default_engine(engines_of(request), fields.get("model"))
    if engine.manifest.task == "embedding":
        return await tei.embed(parsed(EmbedRequest, fields), request)
    return await tei.predict(parsed(PredictRequest, fields), request)


async def _labels(body: HubRequest, request: Request) -> Response:
    """A list of labels with their scores for each text, of the model's labels or the caller's."""
    wanted = body.parameters
    task: Task = "embedding" if wanted.candidate_labels is not None else "classification"
    engine = select_engine(request, task, body.model or wanted.model)
    texts = as_list(body.inputs)
    options = tei.truncation_of(request, wanted)
    if wanted.candidate_labels is not None:
        labels = wanted.candidate_labels
        rows, answer = await score_labels(
            engine,
            texts,
            labels,
            wanted.hypothesis_template,
            options,
            multi_label=wanted.multi_label,
            max_labels=settings_of(request).max_texts_per_request,
        )
    else:
        labels = list(engine.manifest.labels)
        raw_scores = wanted.function_to_apply is not None
        answer = await engine.classify(texts, options, raw_scores=raw_scores)
        rows = _applied(answer.rows, wanted)
    found = [tei.ranked(row, labels, wanted.top_k) for row in rows]
    # The client of zero-shot classification expects one text's list, that of others a list of them.
    bare = wanted.candidate_labels is not None and isinstance(body.inputs, str)
    listed: list[Input] = list(texts)
    return tei.tei_response(found[0] if bare else found, request, engine, answer, listed)


def _applied(rows: FloatArray, wanted: HubParameters) -> FloatArray:
    """Scores by the function that the caller names; without one they are scores already."""
    if wanted.function_to_apply == "softmax":
        return softmax(rows)
    return sigmoid(rows) if wanted.function_to_apply == "sigmoid" else rows
