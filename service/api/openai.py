"""OpenAI's dialect: embeddings and the list of models."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.answers import Answer
from service.api.answer_schemas import EmbeddingsResponse, ModelCard, ModelsResponse
from service.api.examples import EMBEDDINGS_REQUESTS, answers
from service.api.requests import StrictRoute
from service.api.routing import (
    check_token_ids,
    documented_responses,
    engines_of,
    error_entry,
    json_response,
    length_entry,
    options_of,
    select_engine,
    usage,
)
from service.api.schemas import EmbeddingsRequest
from service.api.vectors import EncodingFormat, bytes_response, encode_vectors, wanted_bytes
from service.engine import Engine
from service.errors import InvalidField, TokenIdsNotAccepted
from service.inputs import Input, TokenIds
from service.registry import EngineRegistry

router = APIRouter(route_class=StrictRoute, tags=["OpenAI"])


@router.post(
    "/v1/embeddings",
    summary="Vectors of texts",
    response_model=EmbeddingsResponse,
    responses=documented_responses(answers("/v1/embeddings")),
)
async def create_embeddings(
    body: Annotated[EmbeddingsRequest, Body(openapi_examples=EMBEDDINGS_REQUESTS)],
    request: Request,
) -> Response:
    engine = select_engine(request, "embedding", body.model, body.expected_version)
    form = body.encoding_format or "float"
    media_type = wanted_bytes(request.headers)
    if media_type and body.on_error == "partial":
        raise InvalidField("a bare array has no place for errors: ask for JSON", param="on_error")
    options = options_of(
        request,
        prompt_name=body.prompt_name,
        overflow=body.overflow,
        truncation_side=body.truncation_direction,
        on_error=body.on_error,
    )
    inputs = _inputs(body, engine, engines_of(request))
    answer = await engine.embed(inputs, options, dimensions=body.dimensions)
    if media_type:
        return bytes_response(engine, answer, form, media_type)
    return json_response(
        {
            "object": "list",
            "model": engines_of(request).name_of(engine),
            "data": embedding_entries(answer, form),
            "usage": usage(answer),
        },
        engine,
        answer,
    )


def embedding_entries(answer: Answer, form: EncodingFormat) -> list[dict[str, Any]]:
    """OpenAI's entry for each text, and how much of it was read."""
    vectors = encode_vectors(answer.rows, form)
    return [
        {"object": "embedding", "embedding": None, **error_entry(index, answer.errors[index])}
        if index in answer.errors
        else {
            "object": "embedding",
            "index": index,
            "embedding": vector,
            **length_entry(answer, index),
        }
        for index, vector in enumerate(vectors)
    ]


@router.get("/v1/models", summary="Models that are served", response_model=ModelsResponse)
async def list_models(request: Request) -> dict[str, Any]:
    engines = engines_of(request)
    return {"object": "list", "data": [model_card(engine, engines) for engine in engines]}


@router.get(
    "/v1/models/{model}",
    summary="One served model, by name, name@version or alias",
    response_model=ModelCard,
    responses=documented_responses(),
)
async def get_model(model: str, request: Request) -> dict[str, Any]:
    engines = engines_of(request)
    return model_card(engines.get(model), engines)


def model_card(engine: Engine, engines: EngineRegistry) -> dict[str, Any]:
    manifest = engine.manifest
    embeds = manifest.task == "embedding"
    return {
        "id": engines.name_of(engine),
        "object": "model",
        "created": int(manifest.created_at.timestamp()),
        "owned_by": "encserve",
        "version": manifest.version,
        "digest": f"sha256:{engine.digest}",
        "aliases": engines.aliases_of(engine),
        "task": manifest.task,
        "problem_type": None if embeds else manifest.problem_type,
        "reads_pairs": engine.reads_pairs,
        "max_tokens": manifest.max_tokens,
        "dimensions": manifest.width if embeds else None,
        "matryoshka_dimensions": list(manifest.matryoshka_dimensions),
        "prompts": list(manifest.prompts),
        "labels": list(manifest.labels),
    }


def _inputs(body: EmbeddingsRequest, engine: Engine, engines: EngineRegistry) -> list[Input]:
    """The texts, or the token ids if the caller says that they are this model's."""
    given = [body.input] if isinstance(body.input, str) else body.input
    if not any(isinstance(one, int | list) for one in given):
        return [text for text in given if isinstance(text, str)]
    if body.token_ids_of is None:
        raise TokenIdsNotAccepted(
            "input holds token ids, which another tokenizer may have made: send text "
            "(langchain-openai: check_embedding_ctx_length=False), or say with token_ids_of that "
            "they are this model's",
            param="input",
        )
    check_token_ids(engine, engines, body.token_ids_of)
    lists = [given] if isinstance(given[0], int) else given
    return [TokenIds(ids) for ids in lists if isinstance(ids, list)]
