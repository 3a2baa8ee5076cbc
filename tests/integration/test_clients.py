"""OpenAI's own client against our server, unchanged."""

from collections.abc import Iterator

import numpy as np
import openai
import pytest

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
