"""Our own dialect: any classification model, and sentiment with one number for the mood."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from service.answers import Answer
from service.api.answer_schemas import ClassifyResponse, SentimentResponse
from service.api.examples import CLASSIFY_REQUESTS, SENTIMENT_REQUESTS, answers
from service.api.feedback import remember
from service.api.requests import StrictRoute
from service.api.routing import (
    as_list,
    chosen,
    documented_responses,
    engines_of,
    error_entry,
    json_response,
    length_entry,
    options_of,
    select_engine,
    settings_of,
    usage,
)
from service.api.schemas import ClassifyOptions, ClassifyRequest, SentimentRequest
from service.api.zero_shot import score_labels
from service.engine import Engine
from service.errors import InvalidField, WrongTask
from service.inputs import Input, Pair
from service.options import Options
from service.registry import EngineRegistry
from service.runtime.outputs import FloatArray, compound

router = APIRouter(route_class=StrictRoute, tags=["Classification"])


@router.post(
    "/v1/classify",
    summary="Labels of texts: the model's, or your own",
    response_model=ClassifyResponse,
    responses=documented_responses(answers("/v1/classify")),
)
async def classify(
    body: Annotated[ClassifyRequest, Body(openapi_examples=CLASSIFY_REQUESTS)], request: Request
) -> Response:
    if body.candidate_labels is not None:
        return await _classify_by(body, body.candidate_labels, request)
    engine = select_engine(request, "classification", body.model, body.expected_version)
    answer = await engine.classify(
        inputs_of(body.input), _options(request, body), raw_scores=body.raw_scores
    )
    entries = label_entries(answer, engine.manifest.labels, body, _thresholds(engine, body))
    return _respond(request, engine, answer, entries)


@router.post(
    "/v1/sentiment",
    summary="Negative, neutral or positive",
    response_model=SentimentResponse,
    responses=documented_responses(answers("/v1/sentiment")),
)
async def sentiment(
    body: Annotated[SentimentRequest, Body(openapi_examples=SENTIMENT_REQUESTS)], request: Request
) -> Response:
    engine = sentiment_engine(engines_of(request), body.model)
    named = "@" in (body.model or "")
    engine = chosen(request, engine, body.expected_version, by_version=named)
    answer = await engine.classify(
        as_list(body.input), _options(request, body), raw_scores=body.raw_scores
    )
    entries = label_entries(answer, engine.manifest.labels, body, _thresholds(engine, body))
    if not body.raw_scores:
        add_compound(entries, answer, engine)
    return _respond(request, engine, answer, entries)


def sentiment_engine(engines: EngineRegistry, model: str | None) -> Engine:
    """A classification model that knows good from bad.

    Raises:
        WrongTask: it has no such labels.
    """
    engine = engines.for_task("classification", model)
    if not {"negative", "positive"} <= set(engine.manifest.labels):
        raise WrongTask(
            f"model {engine.name!r} has no labels 'negative' and 'positive': use /v1/classify",
            param="model",
        )
    return engine


def add_compound(entries: Sequence[dict[str, Any]], answer: Answer, engine: Engine) -> None:
    """Put the mood, one number, into the entries of sound texts."""
    moods = compound(answer.rows, engine.manifest.labels)
    for entry in entries:
        if "error" not in entry:
            entry["compound"] = moods[entry["index"]]


def label_entries(
    answer: Answer,
    labels: Sequence[str],
    options: ClassifyOptions,
    thresholds: Mapping[str, float],
) -> list[dict[str, Any]]:
    """One entry a text: its likeliest label, and the scores that are wanted."""
    rows = answer.rows.tolist() if options.top_k or thresholds else answer.rows
    return [
        error_entry(index, answer.errors[index])
        if index in answer.errors
        else {
            "index": index,
            **_chosen(labels, row, options.top_k, thresholds),
            **length_entry(answer, index),
        }
        for index, row in enumerate(rows)
    ]


def _chosen(
    labels: Sequence[str],
    row: FloatArray,
    top_k: int | None,
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    scores = dict(zip(labels, row, strict=True))
    label = max(scores, key=scores.__getitem__)
    score = scores[label]
    if thresholds:
        scores = {name: one for name, one in scores.items() if one >= thresholds[name]}
    if top_k is not None:
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:top_k]
        scores = {name: scores[name] for name in best}
    return {"label": label if label in scores else None, "score": score, "scores": scores}


def _thresholds(engine: Engine, options: ClassifyOptions) -> dict[str, float]:
    """What each label's score must reach; empty where nothing is asked."""
    labels = engine.manifest.labels
    if options.threshold is None:
        return {}
    if options.threshold != "calibrated":
        return dict.fromkeys(labels, options.threshold)
    calibration = engine.manifest.calibration
    if calibration is None or options.raw_scores:
        raise InvalidField(
            f"threshold: model {engine.name!r} has no calibrated thresholds for these scores: "
            "name a number",
            param="threshold",
        )
    # A label that never was precise enough is never believed.
    found = calibration.thresholds
    return {label: found[label].score if label in found else float("inf") for label in labels}


async def _classify_by(body: ClassifyRequest, labels: Sequence[str], request: Request) -> Response:
    """Zero-shot: labels of the caller's own."""
    engine = select_engine(request, "embedding", body.model, body.expected_version)
    texts = inputs_of(body.input)
    if body.raw_scores or body.threshold == "calibrated" or any(isinstance(t, Pair) for t in texts):
        raise InvalidField(
            "with candidate_labels there are neither raw_scores nor calibrated thresholds, and "
            "input is single texts",
            param="candidate_labels",
        )
    scores, answer = await score_labels(
        engine,
        [text for text in texts if isinstance(text, str)],
        labels,
        body.hypothesis_template,
        _options(request, body),
        multi_label=body.multi_label,
        max_labels=settings_of(request).max_texts_per_request,
    )
    judged = Answer(scores, answer.tokens, answer.full_tokens, answer.truncated, answer.errors)
    thresholds = {} if body.threshold is None else dict.fromkeys(labels, body.threshold)
    return _respond(request, engine, answer, label_entries(judged, labels, body, thresholds))


def _options(request: Request, body: ClassifyOptions) -> Options:
    return options_of(
        request,
        prompt_name=body.prompt_name,
        overflow=body.overflow,
        truncation_side=body.truncation_direction,
        windows=body.windows,
        on_error=body.on_error,
    )


def inputs_of(given: str | list[str] | list[list[str]]) -> list[Input]:
    """Texts, or pairs of texts."""
    texts = [given] if isinstance(given, str) else given
    return [text if isinstance(text, str) else Pair(*text) for text in texts]


def _respond(
    request: Request, engine: Engine, answer: Answer, entries: list[dict[str, Any]]
) -> Response:
    remember(request, engine, answer)
    return json_response(
        {
            "object": "list",
            "model": engines_of(request).name_of(engine),
            "version": engine.version,
            "data": entries,
            "usage": usage(answer),
        },
        engine,
        answer,
    )
