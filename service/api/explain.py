"""Why a text was given its label, word by word."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.api.answer_schemas import ExplainResponse
from service.api.classify import inputs_of
from service.api.examples import EXPLAIN_REQUESTS, answers
from service.api.headers import TRUNCATED
from service.api.requests import StrictRoute
from service.api.routing import (
    documented_responses,
    engines_of,
    json_response,
    length_entry,
    options_of,
    select_engine,
    settings_of,
)
from service.api.schemas import ExplainRequest
from service.engine import Engine
from service.errors import EmptyInput, InvalidRequest, TooManyTexts
from service.explaining.explain import Explanation, explain
from service.explaining.words import Word
from service.inputs import Input, Pair
from service.runtime.outputs import label_scores

router = APIRouter(route_class=StrictRoute, tags=["Classification"])


@router.post(
    "/v1/explain",
    summary="Which words moved the score of a label",
    response_model=ExplainResponse,
    responses=documented_responses(answers("/v1/explain")),
)
async def explain_route(
    body: Annotated[ExplainRequest, Body(openapi_examples=EXPLAIN_REQUESTS)], request: Request
) -> Response:
    engine = select_engine(request, "classification", body.model, body.expected_version)
    settings = settings_of(request)
    texts = inputs_of(body.input)
    if not texts:
        raise EmptyInput("input is empty: send at least one text", param="input")
    if len(texts) > settings.max_explained_texts:
        raise TooManyTexts(
            len(texts), settings.max_explained_texts, setting="ENCSERVE_MAX_EXPLAINED_TEXTS"
        )
    options = options_of(request, prompt_name=body.prompt_name)
    max_runs = settings.explain_max_runs
    found = []
    for index, text in enumerate(texts):
        with _naming(index):
            found.append(await explain(engine, text, options, body.label, max_runs))
    tokens = sum(one.tokens for one in found)
    return json_response(
        {
            "object": "list",
            "model": engines_of(request).name_of(engine),
            "version": engine.version,
            "unit": "value" if engine.manifest.problem_type == "regression" else "log_odds",
            "data": [
                {"index": index, **_entry(engine, text, one)}
                for index, (text, one) in enumerate(zip(texts, found, strict=True))
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        },
        engine,
        found[-1].answer,
        {TRUNCATED: str(sum(sum(one.answer.truncated) for one in found))},
    )


@contextmanager
def _naming(index: int) -> Iterator[None]:
    """Each text is asked about alone; its errors name its place in the request."""
    try:
        yield
    except InvalidRequest as error:
        if error.param == "input[0]":
            error.param = f"input[{index}]"
        raise


def _entry(engine: Engine, text: Input, found: Explanation) -> dict[str, Any]:
    labels = engine.manifest.labels
    return {
        "label": labels[found.label],
        "score": found.answer.rows[0][found.label],
        "scores": dict(zip(labels, found.answer.rows[0], strict=True)),
        "words": [{**_place(text, one.word), "weight": one.weight} for one in found.words],
        "phrases": [
            {**_place(text, one.word), "weight": one.weight, "interaction": one.interaction}
            for one in found.phrases
        ],
        "completeness": {
            "total": found.total,
            "sum_of_weights": found.weights_sum,
            "gap": found.weights_sum - found.total,
        },
        "deletion": _deletion(engine, text, found),
        "runs": found.tokens / found.answer.tokens[0],
        **length_entry(found.answer, 0),
    }


def _deletion(engine: Engine, text: Input, found: Explanation) -> dict[str, Any] | None:
    if found.deletion is None:
        return None
    problem = engine.manifest.problem_type
    scores = label_scores(found.deletion.row[None], problem)[0]
    label = found.label if problem == "multi_label" else int(scores.argmax())
    words: Sequence[Word] = sorted(found.deletion.words, key=lambda word: (word.part, word.start))
    return {
        "removed": [_place(text, word) for word in words],
        "label": engine.manifest.labels[label],
        "score": scores[label],
    }


def _place(text: Input, word: Word) -> dict[str, Any]:
    part = text[word.part] if isinstance(text, Pair) else text
    assert isinstance(part, str)
    place = {"text": part[word.start : word.end], "start": word.start, "end": word.end}
    return {**place, "part": word.part} if isinstance(text, Pair) else place
