"""What was right: callers say it of an answer by the id of its request."""

from typing import Annotated

import numpy as np
import orjson
from fastapi import APIRouter, Body
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from service.answers import Answer
from service.api.requests import StrictRoute
from service.api.routing import documented_responses
from service.api.schemas import StrictBody
from service.engine import Engine
from service.feedback import NO_ANSWER, Feedback, Remembered

router = APIRouter(route_class=StrictRoute, tags=["Classification"])


class FeedbackRequest(StrictBody):
    request_id: str = Field(description="the header X-Request-ID of the answer")
    index: int = Field(0, ge=0, description="which of the request's texts")
    label: str = Field(description="what would have been right")
    text: str | None = Field(
        None,
        max_length=100_000,
        description="the text itself, to be kept for the next fine-tuning where the server does so",
    )


class FeedbackResponse(BaseModel):
    right: bool = Field(description="the answer had that label")


@router.post(
    "/v1/feedback",
    summary="Say which label would have been right",
    response_model=FeedbackResponse,
    responses=documented_responses(),
)
async def give_feedback(body: Annotated[FeedbackRequest, Body()], request: Request) -> Response:
    feedback: Feedback = request.app.state.feedback
    key = _key_of(request)
    right = feedback.take(body.request_id, key, body.index, body.label, body.text)
    return Response(orjson.dumps({"right": right}), media_type="application/json")


def remember(request: Request, engine: Engine, answer: Answer) -> None:
    """Keep the labels of an answer, so that feedback can be compared with them.

    Only probabilities are: logits and numbers say nothing about how sure a label is.
    """
    feedback: Feedback = request.app.state.feedback
    manifest = engine.manifest
    if manifest.task != "classification" or not len(answer.rows):
        return
    if answer.rows.min() < 0 or answer.rows.max() > 1 or manifest.problem_type == "regression":
        return
    winners = answer.rows.argmax(axis=1)
    scores = np.take_along_axis(answer.rows, winners[:, None], axis=1)[:, 0]
    labels = tuple(
        NO_ANSWER if index in answer.errors else manifest.labels[winner]
        for index, winner in enumerate(winners.tolist())
    )
    remembered = Remembered(
        engine.name, engine.version, manifest.labels, labels, tuple(scores.tolist())
    )
    feedback.remember(request.state.request_id, _key_of(request), remembered)


def _key_of(request: Request) -> str:
    return getattr(request.state, "key", "")
