"""The shape of Cohere's `/v2/embed`: one call, the vectors in as many forms as are asked for."""

from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Body
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from service.api.examples import COHERE_REQUESTS, answers
from service.api.requests import StrictRoute
from service.api.routing import documented_responses, json_response, options_of, select_engine
from service.api.schemas import text_list
from service.api.vectors import EncodingFormat, encode_vectors
from service.store.manifest import Manifest

router = APIRouter(route_class=StrictRoute, tags=["Cohere"])

# Names by which models know the prompts that Cohere's input types stand for.
PROMPTS = {
    "search_query": ("search_query", "query"),
    "search_document": ("search_document", "document", "passage"),
    "classification": ("classification",),
    "clustering": ("clustering",),
}


class CohereRequest(BaseModel):
    """Other fields of Cohere's are passed over."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    texts: Annotated[list[str], BeforeValidator(text_list)]
    model: str | None = Field(None, description="default: the store's embedding model")
    input_type: (
        Literal["search_query", "search_document", "classification", "clustering"] | None
    ) = Field(None, description="puts the model's prompt of that kind before each text, if any")
    embedding_types: list[EncodingFormat] = Field(
        default=["float"], min_length=1, max_length=6, description="all the forms that are wanted"
    )
    output_dimension: int | None = Field(None, ge=1)
    truncate: Literal["END", "START", "NONE"] = Field(
        "END", description="which end of a long text is cut; NONE refuses it"
    )


class BilledUnits(BaseModel):
    input_tokens: int


class ApiVersion(BaseModel):
    version: str


class Meta(BaseModel):
    api_version: ApiVersion
    billed_units: BilledUnits


class CohereResponse(BaseModel):
    id: str
    embeddings: dict[EncodingFormat, list[list[float] | str]]
    texts: list[str]
    meta: Meta


@router.post(
    "/v2/embed",
    summary="Vectors of texts, in several forms at once",
    response_model=CohereResponse,
    responses=documented_responses(answers("/v2/embed")),
)
async def embed(
    body: Annotated[CohereRequest, Body(openapi_examples=COHERE_REQUESTS)], request: Request
) -> Response:
    engine = select_engine(request, "embedding", body.model)
    options = options_of(
        request,
        prompt_name=_prompt_name(engine.manifest, body.input_type),
        overflow="error" if body.truncate == "NONE" else "truncate",
        truncation_side="left" if body.truncate == "START" else "right",
    )
    answer = await engine.embed(body.texts, options, dimensions=body.output_dimension)
    content: dict[str, Any] = {
        "id": str(uuid4()),
        "embeddings": {
            form: encode_vectors(answer.rows, form) for form in dict.fromkeys(body.embedding_types)
        },
        "texts": body.texts,
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"input_tokens": sum(answer.tokens)},
        },
    }
    return json_response(content, engine, answer)


def _prompt_name(manifest: Manifest, input_type: str | None) -> str | None:
    """The model's prompt of that kind; None where it has none."""
    if input_type is None:
        return None
    return next((name for name in PROMPTS[input_type] if name in manifest.prompts), None)
