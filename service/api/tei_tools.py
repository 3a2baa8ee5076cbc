"""text-embeddings-inference's dialect beside the models' work: tokens, facts, health."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.dialects import TEI
from service.api.errors import error_response
from service.api.examples import DECODE_REQUESTS, TOKENIZE_REQUESTS, answers
from service.api.requests import TeiRoute
from service.api.routing import chosen, documented_responses, engines_of, settings_of
from service.api.tei import ranking_engine
from service.api.tei_schemas import DecodeRequest, Info, SimpleToken, TeiError, TokenizeRequest
from service.engine import Engine
from service.errors import EncserveError, ShuttingDown, TokenIdsNotAccepted
from service.inputs import portions
from service.preparing import TOKENIZE_PORTION_CHARS, too_many_chars
from service.registry import EngineRegistry
from service.runtime.tokenizer import Token, Tokenizer

T = TypeVar("T")

# About as much work as a portion of characters is.
DECODE_PORTION_IDS = 4_000

router = APIRouter(route_class=TeiRoute, tags=["Text Embeddings Inference"])


@router.post(
    "/tokenize",
    summary="Tokens of texts, with their places in characters",
    response_model=list[list[SimpleToken]],
    responses=documented_responses(answers("/tokenize"), TEI, TeiError),
)
async def tokenize(
    body: Annotated[TokenizeRequest, Body(openapi_examples=TOKENIZE_REQUESTS)], request: Request
) -> Response:
    engine = default_engine(engines_of(request), body.model)
    engine = chosen(request, engine, by_version="@" in (body.model or ""))
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    for index, text in enumerate(texts):
        if (fault := too_many_chars(text, settings_of(request).max_text_chars, index)) is not None:
            raise fault
    prompted = engine.with_prompt(texts, body.prompt_name)
    return await _in_portions(
        engine, portions(prompted, len, TOKENIZE_PORTION_CHARS), _tokens_of, body.add_special_tokens
    )


@router.post(
    "/decode",
    summary="Texts of token ids",
    response_model=list[str],
    responses=documented_responses(answers("/decode"), TEI, TeiError),
)
async def decode(
    body: Annotated[DecodeRequest, Body(openapi_examples=DECODE_REQUESTS)], request: Request
) -> Response:
    engine = default_engine(engines_of(request), body.model)
    engine = chosen(request, engine, by_version="@" in (body.model or ""))
    lists: list[Any] = [body.ids] if isinstance(body.ids[0], int) else list(body.ids)
    return await _in_portions(
        engine, portions(lists, len, DECODE_PORTION_IDS), _texts_of, body.skip_special_tokens
    )


@router.get(
    "/info",
    summary="What serves: the default model as text-embeddings-inference tells it, and all others",
    response_model=Info,
)
async def info(request: Request) -> dict[str, Any]:
    engines, settings = engines_of(request), settings_of(request)
    # Without a model that stands out, the first is as good as any: all are listed.
    engine = (
        engines.default("embedding") or engines.default("classification") or next(iter(engines))
    )
    return {
        "model_id": engine.name,
        "model_sha": engine.digest,
        "model_dtype": {"fp32": "float32"}.get(engine.variant, engine.variant),
        "served_model_name": engines.name_of(engine),
        "model_type": _model_type(engine),
        # Requests are admitted by their tokens, not by their number.
        "max_concurrent_requests": None,
        "max_input_length": engine.manifest.max_tokens,
        "max_batch_tokens": engine.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_texts_per_request,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "models": [engines.name_of(one) for one in engines],
        "rerank": _rerank(engines),
    }


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    summary="200 and nothing if all models can answer",
    response_class=Response,
    responses={503: {"model": TeiError, "description": "Not ready"}},
)
@router.get("/ping", include_in_schema=False)
async def health(request: Request) -> Response:
    if engines_of(request).ready:
        return Response()
    return error_response(request, ShuttingDown("unhealthy"))


def default_engine(engines: EngineRegistry, model: str | None) -> Engine:
    """The model asked for; else the default embedding model, else the default classifier.

    Raises:
        UnknownModel: no such model, or none that stands out.
    """
    if model is not None:
        return engines.get(model)
    engine = engines.default("embedding") or engines.default("classification")
    return engine or engines.for_task("embedding", None)


async def _in_portions(
    engine: Engine,
    parts: Iterable[list[T]],
    work: Callable[[Tokenizer, list[T], bool], list[Any]],
    special_tokens: bool,
) -> Response:
    """The answers to all parts as one list.

    Reading and writing so many small things is no work for the event loop, and the thread beside
    it goes from one caller to the next after each part.
    """

    def written(part: list[T]) -> bytes:
        return orjson.dumps(work(engine.tokenizer, part, special_tokens))[1:-1]

    content = [await engine.run_aside(written, part) for part in parts]
    return Response(b"[%b]" % b",".join(content), media_type="application/json")


def _tokens_of(tokenizer: Tokenizer, texts: list[str], special_tokens: bool) -> list[Any]:
    return [
        [_simple(token, text) for token in tokenizer.tokens(text, special_tokens=special_tokens)]
        for text in texts
    ]


def _simple(token: Token, text: str) -> dict[str, Any]:
    written = token.text if token.special else text[token.start : token.end]
    return {
        "id": token.id,
        "text": written,
        "special": token.special,
        "start": token.start,
        "stop": token.end,
    }


def _texts_of(tokenizer: Tokenizer, lists: list[list[int]], skip_special_tokens: bool) -> list[str]:
    most = tokenizer.vocabulary_size - 1
    if not all(0 <= token_id <= most for ids in lists for token_id in ids):
        raise TokenIdsNotAccepted(f"ids must be from 0 to {most}: others are no tokens")
    return [tokenizer.decode(ids, skip_special_tokens=skip_special_tokens) for ids in lists]


def _model_type(engine: Engine) -> dict[str, Any]:
    manifest = engine.manifest
    if manifest.task == "embedding":
        return {"embedding": {"pooling": manifest.pooling}}
    labels = dict(enumerate(manifest.labels))
    kind = "reranker" if engine.reads_pairs and manifest.width == 1 else "classifier"
    return {
        kind: {
            "id2label": {str(index): label for index, label in labels.items()},
            "label2id": {label: index for index, label in labels.items()},
        }
    }


def _rerank(engines: EngineRegistry) -> str:
    try:
        engine = ranking_engine(engines, None)
    except EncserveError:
        return "no model that could"
    return f"{'cross-encoder' if engine.reads_pairs else 'cosine'} of {engines.name_of(engine)}"
