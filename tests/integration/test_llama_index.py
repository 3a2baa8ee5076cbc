"""LlamaIndex's package for text-embeddings-inference against our server, unchanged."""

import numpy as np
import pytest
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from tests.integration.conftest import LiveServer

TEXTS = ["the train leaves at nine", "good food", "the " * 100]


def test_vectors_of_texts_and_of_a_query(server: LiveServer) -> None:
    model = TextEmbeddingsInference(model_name="embedding", base_url=server.url)
    data = server.client.post("/v1/embeddings", json={"input": TEXTS}).json()["data"]
    vectors = np.array([entry["embedding"] for entry in data])
    assert np.array(model.get_text_embedding_batch(TEXTS)) == pytest.approx(vectors, abs=1e-6)
    assert model.get_query_embedding(TEXTS[0]) == pytest.approx(vectors[0], abs=1e-6)
