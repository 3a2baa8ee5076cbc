"""Clients of OpenAI's and Cohere's embeddings against our server, unchanged."""

from collections.abc import Iterator

import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from tests.integration.conftest import LiveServer


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_default_call_decodes_our_base64(client: openai.OpenAI) -> None:
    texts = ["the train leaves at nine", "good food"]
    default = client.embeddings.create(model="embedding", input=texts)
    floats = client.embeddings.create(model="embedding", input=texts, encoding_format="float")
    assert [entry.index for entry in default.data] == [0, 1]
    assert len(default.data[0].embedding) == 16
    assert np.array([entry.embedding for entry in default.data]) == pytest.approx(
        np.array([entry.embedding for entry in floats.data]), abs=1e-7
    )
    assert default.usage.total_tokens == floats.usage.total_tokens > 0


def test_dimensions_and_a_single_string(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="embedding", input="good food", dimensions=4)
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1, abs=1e-6)
    assert len(answer.data[0].embedding) == 4


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"embedding", "sentiment"}
    assert client.models.retrieve("embedding").owned_by == "encserve"


def test_errors_arrive_with_code_param_and_message(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as blank:
        client.embeddings.create(model="embedding", input=["a", " "])
    assert (blank.value.code, blank.value.param) == ("blank_text", "input[1]")
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="nothing", input="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="embedding", input=[[1, 2, 3]])


def langchain(server: LiveServer, *, check_embedding_ctx_length: bool) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="embedding",
        base_url=f"{server.url}/v1",  # type: ignore[call-arg]  # known by its alias
        api_key=SecretStr("unused"),
        check_embedding_ctx_length=check_embedding_ctx_length,
        max_retries=0,
    )


def test_langchain_embeds_documents_and_queries(server: LiveServer) -> None:
    model = langchain(server, check_embedding_ctx_length=False)
    texts = ["the train leaves at nine", "good food"]
    data = server.client.post("/v1/embeddings", json={"input": texts}).json()["data"]
    vectors = np.array([entry["embedding"] for entry in data])
    assert np.array(model.embed_documents(texts)) == pytest.approx(vectors, abs=1e-6)
    assert model.embed_query(texts[0]) == pytest.approx(vectors[0], abs=1e-6)


def test_foreign_token_ids_name_langchains_setting(client: openai.OpenAI) -> None:
    # langchain's default sends ids of OpenAI's tokenizer, which it downloads first.
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="embedding", input=[[791, 5542], [19045]])


def test_version_conflict_is_not_tried_again(server: LiveServer) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=2) as client:
        with pytest.raises(openai.ConflictError) as conflict:
            client.embeddings.create(
                model="embedding", input="a", extra_body={"expected_version": "7"}
            )
        assert conflict.value.code == "version_mismatch"
    # The client numbers its tries.
    assert conflict.value.request.headers["x-stainless-retry-count"] == "0"


def test_cohere_shape_holds_all_forms_at_once(server: LiveServer) -> None:
    texts = ["the food", "a good train"]
    forms = ["float", "base64", "int8", "uint8", "binary", "ubinary"]
    body = {
        "model": "embedding",
        "texts": texts,
        "input_type": "search_query",
        "embedding_types": forms,
        "output_dimension": 8,
        "an_unknown_field": 1,
    }
    answer = server.client.post("/v2/embed", json=body).json()
    assert (answer["texts"], list(answer["embeddings"])) == (texts, forms)
    for form in forms:
        own = server.client.post(
            "/v1/embeddings", json={"input": texts, "encoding_format": form, "dimensions": 8}
        ).json()
        assert answer["embeddings"][form] == [entry["embedding"] for entry in own["data"]]
    tokens = own["usage"]["total_tokens"]
    assert answer["meta"]["billed_units"]["input_tokens"] == tokens


@pytest.mark.parametrize(("truncate", "status"), [("END", 200), ("START", 200), ("NONE", 400)])
def test_cohere_truncate_names_the_end_that_is_cut(
    server: LiveServer, truncate: str, status: int
) -> None:
    body = {"texts": ["bad " * 40 + "good food"], "truncate": truncate}
    response = server.client.post("/v2/embed", json=body)
    assert response.status_code == status
    if status == 200:
        cut = {"END": "right", "START": "left"}[truncate]
        own = server.client.post(
            "/v1/embeddings", json={"input": body["texts"], "truncation_direction": cut}
        ).json()["data"][0]["embedding"]
        assert response.json()["embeddings"]["float"][0] == pytest.approx(own, abs=1e-6)
