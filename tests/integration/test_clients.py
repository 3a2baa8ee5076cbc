"""Clients of OpenAI's and Cohere's embeddings against our server, unchanged."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import openai
import pytest
import tiktoken
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from service.offline.export import publish_embedding
from service.offline.progress import Progress
from service.store.repository import ModelRepository
from tests.conftest import SENTENCES, only_fp32, tiny_checkpoint
from tests.integration.conftest import LiveServer, live_server


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


def test_langchains_default_is_told_which_setting_to_change(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its default sends ids of OpenAI's tokenizer, which it would download; any foreign ids will do.
    foreign = tiktoken.Encoding(
        "foreign",
        pat_str=r"\S+|\s+",
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={},
    )
    for name in ("encoding_for_model", "get_encoding"):
        monkeypatch.setattr(tiktoken, name, lambda _: foreign)
    model = langchain(server, check_embedding_ctx_length=True)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as refused:
        model.embed_documents(["the train leaves at nine", "good food"])
    assert (refused.value.code, refused.value.param) == ("token_ids_not_accepted", "input")


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


def test_cohere_input_type_puts_the_models_prompt_of_that_kind_before_a_text(
    tmp_path: Path, quiet: Progress
) -> None:
    prompts = {"query": "a query ", "passage": "a passage ", "classification": "a kind "}
    checkpoint = replace(tiny_checkpoint(tmp_path), prompts=prompts)
    store = tmp_path / "store"
    publish_embedding(ModelRepository(store), "embedding", checkpoint, quiet, SENTENCES, only_fp32)
    kinds = {
        "search_query": "query",
        "search_document": "passage",
        "classification": "classification",
        "clustering": None,
    }
    with live_server(store, cache_bytes=0) as server:
        for input_type, prompt_name in kinds.items():
            asked = {"texts": ["good food"], "input_type": input_type}
            answer = server.client.post("/v2/embed", json=asked).json()
            own = server.client.post(
                "/v1/embeddings", json={"input": "good food", "prompt_name": prompt_name}
            ).json()["data"][0]["embedding"]
            assert answer["embeddings"]["float"][0] == pytest.approx(own, abs=1e-6)
            alone = server.client.post("/v1/embeddings", json={"input": "good food"}).json()
            differs = answer["embeddings"]["float"][0] != pytest.approx(
                alone["data"][0]["embedding"], abs=1e-4
            )
            assert differs is (prompt_name is not None)
